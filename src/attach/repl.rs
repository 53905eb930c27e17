//! The attach prompt, and commands from `-c`, a file or a pipe.
//!
//! Data goes to stdout, everything else to stderr. Non-interactive input stops at the first error.
//! Before policies are changed their plan is shown; at a prompt it is asked for consent.
//!
//! Bound: history keeps [`HISTORY_MAX`] lines, mode 0600.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, Helper};
use serde_json::{Map, Value as Json};

use super::client::{AttachError, Client};
use super::command::{self, Command, Takes};
use super::output::{self, Format};
use super::parse;
use crate::cli::Exit;

/// Lines of history: years of an operator, well below a megabyte.
pub const HISTORY_MAX: usize = 10_000;

/// How often the lease of a chaos plan is renewed: well within the shortest sensible one.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// Runs lines until the first error, or `exit`.
pub fn run_lines(
    client: &mut Client,
    lines: impl IntoIterator<Item = io::Result<String>>,
    format: Format,
) -> Exit {
    for line in lines {
        let exit = match line {
            Ok(line) if leaves(&line) => return Exit::Ok,
            Ok(line) => run_line(client, &line, format),
            Err(error) => {
                eprintln!("error: {error}");
                Exit::Failed
            }
        };
        if exit != Exit::Ok {
            return exit;
        }
    }
    Exit::Ok
}

fn leaves(line: &str) -> bool {
    matches!(line.trim(), "exit" | "quit")
}

/// Runs one line: answer to stdout, error to stderr.
pub fn run_line(client: &mut Client, line: &str, format: Format) -> Exit {
    answer(client, line, format, || true)
}

/// The same, where somebody may say no once a plan is shown.
fn answer(
    client: &mut Client,
    line: &str,
    format: Format,
    consents: impl FnOnce() -> bool,
) -> Exit {
    match run(client, line, format, consents) {
        Ok(None) => Exit::Ok,
        Ok(Some(text)) => {
            let mut stdout = io::stdout().lock();
            match stdout
                .write_all(text.as_bytes())
                .and_then(|()| stdout.flush())
            {
                Ok(()) => Exit::Ok,
                Err(_) => Exit::Failed, // the reader of the pipe is gone
            }
        }
        Err((exit, message)) => {
            eprintln!("error: {message}");
            exit
        }
    }
}

fn run(
    client: &mut Client,
    line: &str,
    format: Format,
    consents: impl FnOnce() -> bool,
) -> Result<Option<String>, (Exit, String)> {
    let parsed = parse::parse(line).map_err(|message| (Exit::Usage, message))?;
    let Some((command, mut args)) = parsed else {
        return Ok(None);
    };
    if let Some(plan) = args.get_mut("plan") {
        // The node has another working directory.
        let path = std::path::absolute(plan.as_str().unwrap_or_default());
        *plan = path.unwrap_or_default().display().to_string().into();
    }
    if changes_policies(command, &args) {
        show_plan(client, command, &args).map_err(|error| (error.exit(), error.to_string()))?;
        if !consents() {
            eprintln!("nothing was changed");
            return Ok(None);
        }
    }
    let stays = command.name == "chaos" && args.get("action").is_some_and(|a| a == "start");
    let data = if command.name == "help" {
        command::help(args.get("command").and_then(Json::as_str))
    } else {
        client
            .call(command.name, args)
            .map_err(|error| (error.exit(), error.to_string()))?
    };
    let data = if stays {
        until_over(client, data).map_err(|error| (error.exit(), error.to_string()))?
    } else {
        data
    };
    Ok(Some(output::render(&data, command.view, format)))
}

/// Whether a line changes what supervisors do: nobody should have to undo that.
fn changes_policies(command: &Command, args: &Map<String, Json>) -> bool {
    let action = args.get("action").and_then(Json::as_str);
    let changes = matches!(action, Some("set" | "reload"));
    command.name == "policy" && changes && !args.contains_key("dry_run")
}

/// Shows which values a change of policies would change, and where.
fn show_plan(
    client: &mut Client,
    command: &Command,
    args: &Map<String, Json>,
) -> Result<(), AttachError> {
    let mut args = args.clone();
    args.insert("dry_run".to_owned(), Json::Bool(true));
    let plan = client.call(command.name, args)?;
    let rows = plan.get("rows").and_then(Json::as_array);
    if rows.is_none_or(Vec::is_empty) {
        eprintln!("plan: no value changes");
    } else {
        let table = output::render(&plan, command.view, Format::Table);
        eprint!("plan:\n{table}");
    }
    Ok(())
}

/// Asks at the terminal.
fn consents() -> bool {
    eprint!("put it in force? [y/N] ");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.is_ok() && answer.trim_start().starts_with(['y', 'Y'])
}

/// Stays until a chaos plan is over, and renews its lease: it stops when this session goes.
fn until_over(client: &mut Client, begun: Json) -> Result<Json, AttachError> {
    let mut status = begun;
    while status.get("running") == Some(&Json::Bool(true)) {
        std::thread::sleep(RENEW_EVERY);
        let args = [("action", "status".into()), ("renew", true.into())];
        let args = args.map(|(key, value): (&str, Json)| (key.to_owned(), value));
        status = client.call("chaos", args.into_iter().collect())?;
    }
    Ok(status)
}

/// The prompt, until Ctrl-D or `exit`.
pub fn interactive(client: Client, format: Format) -> Exit {
    let node = client
        .socket()
        .parent()
        .and_then(|path| path.file_name())
        .map_or_else(|| "node".into(), |name| name.to_string_lossy().into_owned());
    let client = Rc::new(RefCell::new(client));
    let config = Config::builder()
        .max_history_size(HISTORY_MAX)
        .map(|builder| builder.history_ignore_space(true).build())
        .unwrap_or_default();
    let mut editor: Editor<Prompt, FileHistory> = match Editor::with_config(config) {
        Ok(editor) => editor,
        Err(error) => {
            eprintln!("error: {error}");
            return Exit::Failed;
        }
    };
    editor.set_helper(Some(Prompt {
        client: Rc::clone(&client),
    }));
    let history = history_file();
    if let Some(path) = &history {
        let _ = editor.load_history(path);
    }
    eprintln!("attached to {node}; `help` lists the commands, Tab completes, Ctrl-D leaves");
    let exit = prompt_loop(&mut editor, &client, &node, format);
    if let Some(path) = &history {
        let _ = editor.save_history(path);
    }
    exit
}

fn prompt_loop(
    editor: &mut Editor<Prompt, FileHistory>,
    client: &RefCell<Client>,
    node: &str,
    format: Format,
) -> Exit {
    loop {
        match editor.readline(&format!("{node}> ")) {
            Ok(line) if leaves(&line) => return Exit::Ok,
            Ok(line) => {
                let _ = editor.add_history_entry(line.as_str());
                let exit = answer(&mut client.borrow_mut(), &line, format, consents);
                if matches!(exit, Exit::Unreachable) {
                    return exit;
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => return Exit::Ok,
            Err(error) => {
                eprintln!("error: {error}");
                return Exit::Failed;
            }
        }
    }
}

/// `$XDG_STATE_HOME/actorsim/history`, made with mode 0600; none if `ACTORSIM_HISTFILE` is empty.
fn history_file() -> Option<PathBuf> {
    let path = match std::env::var_os("ACTORSIM_HISTFILE") {
        Some(path) if path.is_empty() => return None,
        Some(path) => PathBuf::from(path),
        None => crate::state_dir::root().join(crate::state_dir::HISTORY),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path.parent()?)
        .ok()?;
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .ok()?;
    Some(path)
}

/// Reads commands from stdin: with a prompt on a terminal, line by line otherwise.
pub fn from_stdin(mut client: Client, format: Format) -> Exit {
    if io::stdin().is_terminal() {
        interactive(client, format)
    } else {
        run_lines(&mut client, io::stdin().lock().lines(), format)
    }
}

struct Prompt {
    client: Rc<RefCell<Client>>,
}

impl Prompt {
    fn paths(&self, prefix: &str) -> Result<Vec<String>, AttachError> {
        let mut args = Map::new();
        args.insert("prefix".into(), prefix.into());
        // A completion while a command runs cannot happen: both are on this thread.
        let data = self.client.borrow_mut().call("complete", args)?;
        let paths = data
            .get("paths")
            .and_then(Json::as_array)
            .cloned()
            .unwrap_or_default();
        Ok(paths
            .iter()
            .filter_map(Json::as_str)
            .map(ToOwned::to_owned)
            .collect())
    }

    fn candidates(&self, before: &str, word: &str) -> Vec<String> {
        let mut words: Vec<&str> = before.split_whitespace().collect();
        let Some(verb) = (!words.is_empty()).then(|| words.remove(0)) else {
            return matching(command::COMMANDS.iter().map(|command| command.name), word);
        };
        let Some(command) = command::find(verb) else {
            return Vec::new();
        };
        if word.starts_with("--") {
            return matching(command.args.iter().map(|arg| arg.name), word);
        }
        match argument(command, &words) {
            Some(Takes::Word(options)) => matching(options.iter().copied(), word),
            Some(Takes::Command) => {
                matching(command::COMMANDS.iter().map(|command| command.name), word)
            }
            Some(Takes::Path | Takes::Pattern) => self.paths(word).unwrap_or_default(),
            _ => Vec::new(),
        }
    }
}

/// Words end in a space, so that the next one can be typed at once; paths may go on.
fn matching<'a>(options: impl Iterator<Item = &'a str>, word: &str) -> Vec<String> {
    options
        .filter(|option| option.starts_with(word))
        .map(|option| format!("{option} "))
        .collect()
}

/// What the argument after these words holds.
fn argument(command: &Command, words: &[&str]) -> Option<Takes> {
    let option = |name: &str| command.args.iter().find(|arg| arg.name == name);
    if let Some(arg) = words.last().and_then(|word| option(word))
        && arg.takes != Takes::Nothing
    {
        return Some(arg.takes);
    }
    let mut positions = 0;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match option(word) {
            Some(arg) if arg.takes != Takes::Nothing => drop(words.next()),
            Some(_) => {}
            None => positions += 1,
        }
    }
    command
        .args
        .iter()
        .filter(|arg| !arg.name.starts_with("--"))
        .nth(positions)
        .map(|a| a.takes)
}

impl Completer for Prompt {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = line.get(..at).unwrap_or(line);
        let start = before
            .rfind(char::is_whitespace)
            .map_or(0, |space| space + 1);
        let candidates = self.candidates(&before[..start], &before[start..]);
        let pair = |text: String| Pair {
            display: text.trim_end().to_owned(),
            replacement: text,
        };
        Ok((start, candidates.into_iter().map(pair).collect()))
    }
}

impl Hinter for Prompt {
    type Hint = String;

    /// The usage of the command, once its verb is typed.
    fn hint(&self, line: &str, at: usize, _: &Context<'_>) -> Option<String> {
        let verb = line.strip_suffix(' ').filter(|verb| !verb.contains(' '))?;
        let usage = command::find(verb)?.usage();
        (at == line.len())
            .then(|| usage.get(line.len()..).map(ToOwned::to_owned))
            .flatten()
    }
}

impl Highlighter for Prompt {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }
}

impl Validator for Prompt {}
impl Helper for Prompt {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_at_the_cursor_is_known() {
        let ps = command::find("ps").unwrap();
        assert_eq!(argument(ps, &[]), Some(Takes::Pattern));
        assert_eq!(argument(ps, &["--after"]), Some(Takes::Path));
        assert_eq!(argument(ps, &["--limit", "3"]), Some(Takes::Pattern));
        assert_eq!(argument(ps, &["/x"]), None);
        let fault = command::find("fault").unwrap();
        assert_eq!(argument(fault, &["crash"]), Some(Takes::Pattern));
    }
}
