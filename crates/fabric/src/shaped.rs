//! The socket of a simulated link: bytes go through a [`Shaper`] in each direction.
//!
//! Each direction is one task that holds what is under way, at most [`IN_FLIGHT`] bytes: when it
//! is full the writer waits, as at a full TCP window. The end of the stream travels like bytes
//! do, so a cut also hides that the other side has gone.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex,
    split,
};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::NodeId;
use crate::links::Links;
use crate::punctual::Timer;
use crate::shaper::Shaper;

/// Bytes one direction of a connection holds at most.
const IN_FLIGHT: usize = 4 << 20;
/// Bytes taken at once.
const PIECE: usize = 16 * 1024;
/// Waits once an end of the stream is held up by a cut; then the socket is dropped.
const LINGER: Duration = Duration::from_secs(30);

/// Waits as a TCP handshake between two nodes would, then wraps the socket. `near` is the node
/// on this side. Waits as long as the link is cut: the caller has a deadline.
pub(crate) async fn connect<T, F>(
    links: &Links,
    near: &NodeId,
    far: &NodeId,
    dial: F,
    stop: &CancellationToken,
) -> io::Result<DuplexStream>
where
    T: AsyncRead + AsyncWrite + Send + 'static,
    F: Future<Output = io::Result<T>>,
{
    let mut changes = links.changes();
    loop {
        changes.mark_unchanged();
        let (out, back) = (links.get(near, far), links.get(far, near));
        if !out.cut && !back.cut {
            tokio::time::sleep(out.delay + back.delay).await;
            break;
        }
        if changes.changed().await.is_err() {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    let socket = dial.await?;
    Ok(wrap(links, near, far, socket, stop))
}

/// Puts a link between the returned stream and `socket`.
pub(crate) fn wrap<T>(
    links: &Links,
    near: &NodeId,
    far: &NodeId,
    socket: T,
    stop: &CancellationToken,
) -> DuplexStream
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (ours, theirs) = duplex(64 * 1024);
    let (socket_in, socket_out) = split(socket);
    let (our_in, our_out) = split(theirs);
    let out = Direction::new(links, near, far);
    let back = Direction::new(links, far, near);
    let stop = stop.clone();
    tokio::spawn(async move {
        let both = async {
            tokio::join!(out.carry(our_in, socket_out), back.carry(socket_in, our_out));
        };
        tokio::select! {
            () = both => {}
            () = stop.cancelled() => {}
        }
    });
    ours
}

struct Direction {
    links: Links,
    from: NodeId,
    to: NodeId,
    shaper: Shaper,
    epoch: Instant,
    under_way: VecDeque<(Duration, Bytes)>,
    held: usize,
}

impl Direction {
    fn new(links: &Links, from: &NodeId, to: &NodeId) -> Self {
        let shaper = Shaper::new(links.get(from, to), links.connection_seed(from, to));
        Self {
            links: links.clone(),
            from: from.clone(),
            to: to.clone(),
            shaper,
            epoch: Instant::now(),
            under_way: VecDeque::new(),
            held: 0,
        }
    }

    /// Returns at the end of either side.
    async fn carry<R, W>(mut self, mut from: ReadHalf<R>, mut to: WriteHalf<W>)
    where
        R: AsyncRead,
        W: AsyncWrite,
    {
        let mut changes = self.links.changes();
        self.refresh();
        let mut timer = Timer::new();
        let mut open = true;
        let mut give_up = None;
        let mut buffer = BytesMut::with_capacity(PIECE);
        while open || !self.under_way.is_empty() {
            let cut = self.shaper.conditions().cut;
            let due = self.under_way.front().filter(|_| !cut).map(|(at, _)| self.epoch + *at);
            let far_off = Instant::now() + LINGER;
            tokio::select! {
                // A change holds from now on, also for what waits to be read.
                biased;
                changed = changes.changed() => {
                    if changed.is_err() { return; }
                    self.refresh();
                }
                () = timer.until(due.unwrap_or(far_off)), if due.is_some() => {
                    if self.deliver(&mut to).await.is_err() { return; }
                }
                read = from.read_buf(&mut buffer), if open && self.held < IN_FLIGHT => {
                    open = matches!(read, Ok(1..));
                    self.send(buffer.split().freeze());
                    buffer.reserve(PIECE);
                }
                () = sleep_until(give_up.unwrap_or(far_off)), if give_up.is_some() => return,
            }
            if !open && give_up.is_none() {
                give_up = Some(Instant::now() + LINGER);
            }
        }
        let _ = timeout_at(Instant::now() + LINGER, to.shutdown()).await;
    }

    /// An empty piece is the end of the stream.
    fn send(&mut self, bytes: Bytes) {
        self.held += bytes.len();
        let arrival = self.shaper.arrival(self.epoch.elapsed(), bytes.len());
        self.under_way.push_back((arrival, bytes));
    }

    async fn deliver<W: AsyncWrite>(&mut self, to: &mut WriteHalf<W>) -> io::Result<()> {
        let now = self.epoch.elapsed();
        while let Some((_, bytes)) = self.under_way.pop_front_if(|(at, _)| *at <= now) {
            to.write_all(&bytes).await?;
            self.held -= bytes.len();
        }
        to.flush().await
    }

    fn refresh(&mut self) {
        let conditions = self.links.get(&self.from, &self.to);
        if conditions == self.shaper.conditions() {
            return;
        }
        self.shaper.set(conditions);
        let now = self.epoch.elapsed();
        let mut after = Duration::ZERO;
        for (arrival, bytes) in &mut self.under_way {
            *arrival = self.shaper.hasten(now, *arrival, bytes.len(), after);
            after = *arrival;
        }
        self.shaper.hastened(now, after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shaper::Conditions;

    fn nodes() -> (NodeId, NodeId) {
        ("a".parse().unwrap(), "b".parse().unwrap())
    }

    fn shaped(links: &Links) -> (DuplexStream, DuplexStream) {
        let (a, b) = nodes();
        let (near, far) = duplex(1024);
        (wrap(links, &a, &b, near, &CancellationToken::new()), far)
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_take_their_time_both_ways() {
        let (a, b) = nodes();
        let links = Links::new(1);
        links.set(&a, &b, Conditions::delayed(Duration::from_millis(30)));
        links.set(&b, &a, Conditions::delayed(Duration::from_millis(70)));
        let (mut near, mut far) = shaped(&links);
        let begin = Instant::now();
        near.write_all(b"hello").await.unwrap();
        let mut five = [0; 5];
        far.read_exact(&mut five).await.unwrap();
        assert_eq!(begin.elapsed().as_millis(), 30);
        far.write_all(&five).await.unwrap();
        near.read_exact(&mut five).await.unwrap();
        assert_eq!((begin.elapsed().as_millis(), &five), (100, b"hello"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_holds_bytes_and_the_end_until_it_heals() {
        let (a, b) = nodes();
        let links = Links::new(1);
        let (mut near, mut far) = shaped(&links);
        links.cut_one_way(&a, &b);
        near.write_all(b"x").await.unwrap();
        drop(near);
        let mut all = Vec::new();
        let wait = Duration::from_secs(5);
        assert!(tokio::time::timeout(wait, far.read_u8()).await.is_err(), "cut");
        links.heal(&a, &b);
        tokio::time::timeout(wait, far.read_to_end(&mut all)).await.unwrap().unwrap();
        assert_eq!(all, b"x");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_is_bounded() {
        let (a, b) = nodes();
        let links = Links::new(1);
        links.cut(&a, &b);
        let (mut near, _far) = shaped(&links);
        let written = std::cell::Cell::new(0);
        let flood = async {
            loop {
                written.set(written.get() + near.write(&[0; 8192]).await.unwrap());
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(5), flood).await.is_err());
        assert!(written.get() <= IN_FLIGHT + (64 << 10) + 2 * PIECE, "{}", written.get());
    }

    #[tokio::test(start_paused = true)]
    async fn many_bytes_come_out_as_they_went_in() {
        let (a, b) = nodes();
        let links = Links::new(3);
        let bad = Conditions {
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(50),
            loss: 0.02,
            bandwidth: Some(2_000_000),
            cut: false,
        };
        links.set(&a, &b, bad);
        let (mut near, mut far) = shaped(&links);
        let sent: Vec<u8> = (0..1_000_000u32).map(|i| ((i * 31) >> 3) as u8).collect();
        let begin = Instant::now();
        let copy = sent.clone();
        let writer = tokio::spawn(async move {
            near.write_all(&copy).await.unwrap();
            near
        });
        let mut seen = vec![0; sent.len()];
        far.read_exact(&mut seen).await.unwrap();
        assert!(seen == sent);
        assert!(begin.elapsed() >= Duration::from_millis(500), "half a second on the wire");
        drop(writer);
    }
}
