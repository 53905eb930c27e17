//! The kernel's UDP socket below an endpoint: large frames in pieces that the kernel takes.
//!
//! A send that is larger than a UDP datagram is refused by the kernel with what quinn takes for a
//! probe that was too large, and forgets; so it is cut here. What comes is taken in small turns:
//! quinn would take two megabytes at once, more than a processor's cache holds, and keep everybody
//! else waiting. It disturbs nothing: that is [`crate::network::wires`]. Bound: [`TURN_BYTES`], and
//! one call's more.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::FRAME_LOOPBACK;

/// What one send, or one piece that the kernel put together, may hold: IPv4's 65,535 bytes without
/// its own and UDP's headers.
const SEND_MAX: usize = 65_507;
/// Frames in what the kernel put together at most: room for all of its bytes.
const RECEIVED_FRAMES: usize = SEND_MAX.div_ceil(FRAME_LOOPBACK as usize);
/// Bytes taken from the kernel before those who decrypt and read them have their turn: they, and
/// what is made of them, are then still in the processor's cache.
const TURN_BYTES: usize = 64 * 1024;

/// The kernel's socket.
#[derive(Debug)]
pub(crate) struct KernelSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    /// Bytes taken in this turn of the endpoint.
    taken: AtomicUsize,
    /// Bytes of a message, as they came last.
    each: AtomicUsize,
}

impl KernelSocket {
    pub(crate) fn new(inner: Arc<dyn AsyncUdpSocket>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            taken: AtomicUsize::new(0),
            each: AtomicUsize::new(1),
        })
    }
}

impl AsyncUdpSocket for KernelSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let bytes = transmit.contents;
        let Some(segment) = transmit.segment_size.filter(|_| bytes.len() > SEND_MAX) else {
            return self.inner.try_send(transmit);
        };
        // Refused half way, all is sent again: a packet that comes twice is taken once.
        for contents in bytes.chunks((SEND_MAX / segment).max(1) * segment) {
            self.inner.try_send(&Transmit {
                contents,
                segment_size: (contents.len() > segment).then_some(segment),
                ..*transmit
            })?;
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        // One task polls it, so that nothing is ordered by these.
        let taken = self.taken.swap(0, Ordering::Relaxed);
        let room = TURN_BYTES.saturating_sub(taken);
        if room == 0 {
            // There may be more, after those who read what came.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let each = self.each.load(Ordering::Relaxed);
        let most = room.div_ceil(each).min(bufs.len());
        let (bufs, meta) = (&mut bufs[..most], &mut meta[..most]);
        let count = ready!(self.inner.poll_recv(cx, bufs, meta))?;
        let bytes: usize = meta[..count].iter().map(|one| one.len).sum();
        let each = bytes.checked_div(count).unwrap_or(0).max(1);
        self.taken.store(taken + bytes, Ordering::Relaxed);
        self.each.store(each, Ordering::Relaxed);
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        // quinn makes room for so many of the largest frames
        self.inner.max_receive_segments().min(RECEIVED_FRAMES)
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use quinn::{Runtime as _, TokioRuntime};

    use super::*;

    fn kernel() -> (Arc<KernelSocket>, SocketAddr) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = socket.local_addr().unwrap();
        let socket = TokioRuntime.wrap_udp_socket(socket).unwrap();
        (KernelSocket::new(socket), addr)
    }

    async fn send(from: &Arc<KernelSocket>, to: SocketAddr, bytes: &[u8], segment: usize) {
        let mut writable = Arc::clone(from).create_io_poller();
        let ready = std::future::poll_fn(|cx| writable.as_mut().poll_writable(cx));
        ready.await.unwrap();
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: bytes,
            segment_size: Some(segment),
            src_ip: None,
        };
        from.try_send(&transmit).unwrap();
    }

    /// Lengths of the next `count` packets.
    async fn lengths(at: &dyn AsyncUdpSocket, count: usize) -> Vec<usize> {
        let mut room = vec![0; SEND_MAX + 1];
        let mut lengths = Vec::new();
        while lengths.len() < count {
            let mut meta = [RecvMeta::default()];
            let came = std::future::poll_fn(|cx| {
                at.poll_recv(cx, &mut [IoSliceMut::new(&mut room)], &mut meta)
            });
            assert_eq!(came.await.unwrap(), 1);
            let pieces = room[..meta[0].len].chunks(meta[0].stride);
            lengths.extend(pieces.map(<[u8]>::len));
        }
        lengths
    }

    #[tokio::test]
    async fn frames_of_more_than_the_kernel_sends_at_once_all_arrive() {
        let ((here, _), (there, at)) = (kernel(), kernel());
        if here.max_transmit_segments() == 1 {
            return eprintln!("skipped: the kernel sends one packet at a time");
        }
        let frame = usize::from(FRAME_LOOPBACK);
        send(&here, at, &vec![0; 9 * frame + 100], frame).await;
        let mut expected = vec![frame; 9];
        expected.push(100);
        assert_eq!(lengths(&*there, 10).await, expected);
    }

    /// Messages of one turn.
    async fn turn(at: &KernelSocket) -> usize {
        let (mut room, mut metas) = (vec![0; 32 * 9_000], [RecvMeta::default(); 32]);
        let mut bufs: Vec<_> = room.chunks_mut(9_000).map(IoSliceMut::new).collect();
        let first = std::future::poll_fn(|cx| at.poll_recv(cx, &mut bufs, &mut metas));
        let mut count = first.await.unwrap();
        loop {
            let next =
                std::future::poll_fn(|cx| Poll::Ready(at.poll_recv(cx, &mut bufs, &mut metas)));
            match next.await {
                Poll::Ready(more) => count += more.unwrap(),
                Poll::Pending => return count,
            }
        }
    }

    #[tokio::test]
    async fn what_comes_at_once_is_taken_in_turns() {
        const EACH: usize = TURN_BYTES / 8;
        let ((here, _), (there, at)) = (kernel(), kernel());
        for (sent, turns) in [(1, vec![1]), (10, vec![8, 2])] {
            for _ in 0..sent {
                send(&here, at, &[7; EACH], EACH).await;
            }
            let mut taken = Vec::new();
            while taken.iter().sum::<usize>() < sent {
                taken.push(turn(&there).await);
            }
            assert_eq!(taken, turns);
        }
    }
}
