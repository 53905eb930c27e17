//! What the scan thread tells its proxy: it allocates nothing for that.
//!
//! It decides nothing. News of the fallback that find no room are left out: whether it is in force
//! is in the snapshot. Bound: [`NEWS_MAX`] news wait; of these more are only counted by who has
//! them, but how an incarnation ended always finds room.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use futures_util::task::AtomicWaker;
use rtrb::{Consumer, Producer, RingBuffer};

use super::ScanFault;
use super::duty::Change;
use super::rt::HostReport;
use crate::systems::SystemFault;

/// News that wait: ready, isolated, ended, and some of the fallback.
const NEWS_MAX: usize = 16;
/// Kept for those that come once: a system is isolated, the incarnation ends.
const KEPT: usize = 2;

/// What the thread tells its proxy; rare, never in steady state.
#[derive(Debug)]
pub(crate) enum ScanNews {
    /// The world stands and the grid is laid.
    Ready(Box<HostReport>),
    /// A system failed and is isolated.
    Isolated(SystemFault),
    /// Only what is essential runs from now on, or all systems again.
    Shed(bool),
    /// It takes more of its core than it may, and rests between cycles, or has not for a while.
    Duty(Change),
    /// The world could not be rebuilt from the journal.
    Forgetful(String),
    /// The loop ended by order.
    Stopped,
    /// The loop ended because of a fault.
    Faulted(ScanFault),
}

/// The thread's end.
pub(crate) struct NewsOut {
    /// Until it is dropped.
    ring: Option<Producer<ScanNews>>,
    told: Arc<AtomicWaker>,
}

/// The proxy's.
pub(crate) struct NewsIn {
    ring: Consumer<ScanNews>,
    told: Arc<AtomicWaker>,
}

/// A way for the news of one incarnation.
pub(crate) fn news() -> (NewsOut, NewsIn) {
    let (out, ring) = RingBuffer::new(NEWS_MAX);
    let told = Arc::<AtomicWaker>::default();
    let out = NewsOut {
        ring: Some(out),
        told: Arc::clone(&told),
    };
    (out, NewsIn { ring, told })
}

impl NewsOut {
    /// Tells what there is room for.
    pub(crate) fn tell(&mut self, news: ScanNews) {
        let comes_again = matches!(news, ScanNews::Shed(_) | ScanNews::Duty(_));
        if let Some(ring) = &mut self.ring
            && (!comes_again || ring.slots() > KEPT)
        {
            let _ = ring.push(news);
            self.told.wake();
        }
    }
}

impl Drop for NewsOut {
    fn drop(&mut self) {
        // whoever waits finds it gone
        self.ring = None;
        self.told.wake();
    }
}

impl NewsIn {
    /// The next one, if there is one.
    pub(crate) fn try_recv(&mut self) -> Option<ScanNews> {
        self.ring.pop().ok()
    }

    /// The next one; `None` when there will be no more.
    pub(crate) async fn recv(&mut self) -> Option<ScanNews> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// The same for a thread that may block.
    pub(crate) fn recv_blocking(&mut self) -> Option<ScanNews> {
        let waker = Waker::from(Arc::new(Parked(thread::current())));
        loop {
            if let Poll::Ready(news) = self.poll(&mut Context::from_waker(&waker)) {
                return news;
            }
            thread::park();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<ScanNews>> {
        self.told.register(cx.waker());
        // looked at first: what was told before it went is here
        let is_over = self.ring.is_abandoned();
        match self.ring.pop() {
            Ok(news) => Poll::Ready(Some(news)),
            Err(_) if is_over => Poll::Ready(None),
            Err(_) => Poll::Pending,
        }
    }
}

/// A thread that waits for news.
struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn how_it_ended_is_told_after_any_number_of_other_news() {
        let (mut out, mut heard) = news();
        (0..1_000).for_each(|n| out.tell(ScanNews::Shed(n % 2 == 0)));
        out.tell(ScanNews::Stopped);
        drop(out);
        let mut sheds = 0;
        while let Some(ScanNews::Shed(_)) = heard.recv().await {
            sheds += 1;
        }
        assert_eq!(sheds, NEWS_MAX - KEPT, "and it was told");
        assert!(heard.recv().await.is_none());
    }

    #[tokio::test]
    async fn who_waits_hears_of_the_end_of_a_thread_that_says_nothing() {
        let (out, mut heard) = news();
        let thread = thread::spawn(move || drop(out));
        assert!(heard.recv().await.is_none());
        thread.join().unwrap();
        let (mut out, mut heard) = news();
        let thread = thread::spawn(move || out.tell(ScanNews::Stopped));
        assert!(matches!(heard.recv_blocking(), Some(ScanNews::Stopped)));
        assert!(heard.recv_blocking().is_none());
        thread.join().unwrap();
    }
}
