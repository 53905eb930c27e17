//! The supervisors that a node may have, for checking policies before any of them runs.
//!
//! A whole-node test holds the list equal to what runs. Bound: fixed at compile time.

use actorsim_supervision::config::{Children, Post};
use actorsim_supervision::{Restart, Strategy};

use Children::{Cells, Coming, Named};
use Restart::{Permanent, Temporary};

const fn post(path: &'static str, children: Children) -> Post {
    Post {
        path,
        needs: None,
        children,
    }
}

/// Every supervisor by path, with its children in start order; `*` stands for one segment.
pub const POSTS: &[Post] = &[
    post(
        "/",
        Named(&[
            ("control", Permanent),
            ("chaos", Permanent),
            ("cluster", Permanent),
            ("twin", Permanent),
            ("transport", Permanent),
            ("fleet", Permanent),
        ]),
    ),
    post(
        "/control",
        Named(&[
            ("attach", Permanent),
            ("metrics", Permanent),
            ("http", Permanent),
            ("grpc", Permanent),
        ]),
    ),
    post("/cluster", Coming(Permanent)),
    Post {
        path: "/twin",
        needs: Some(Strategy::RestForOne),
        children: Named(&[
            ("journal", Permanent),
            ("scan", Permanent),
            ("route", Permanent),
            ("apply", Permanent),
            ("actuate", Permanent),
        ]),
    },
    post(
        "/transport",
        Named(&[
            ("tier-t1", Permanent),
            ("tier-t2", Permanent),
            ("tier-t3", Permanent),
            ("conn", Permanent),
            ("listener", Permanent),
            ("listener-commands", Permanent),
        ]),
    ),
    Post {
        path: "/transport/conn",
        needs: Some(Strategy::SimpleOneForOne),
        children: Coming(Temporary),
    },
    post(
        "/fleet",
        Named(&[
            ("shards", Permanent),
            ("links", Permanent),
            ("publisher", Permanent),
            ("scenario", Permanent),
        ]),
    ),
    post("/fleet/shards", Coming(Permanent)),
    post("/fleet/links", Coming(Permanent)),
    post("/fleet/publisher", Coming(Permanent)),
    post("/fleet/scenario", Coming(Permanent)),
    post("/fleet/*", Cells),
];

#[cfg(test)]
mod tests {
    use super::*;
    use actorsim_supervision::{ConfigError, Policies, SupervisorPolicy};

    #[test]
    fn the_shipped_policies_fit_and_say_something_of_every_supervisor() {
        let shipped = Policies::shipped();
        let wrong: Vec<String> = shipped.fit(POSTS).iter().map(ConfigError::render).collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        for post in POSTS {
            let path = post.path.replace('*', "default");
            let path = actorsim_actors::ActorPath::new(&path).unwrap();
            assert_ne!(
                shipped.for_path(&path),
                SupervisorPolicy::default(),
                "{path} has OTP's defaults"
            );
        }
    }
}
