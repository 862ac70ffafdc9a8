//! What stands inside, and a resolver that leads there.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use deno_fetch::dns::{Resolve, Resolver, Resolving};
use hyper_util::client::legacy::connect::dns::Name;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Listens on loopback, TCP on both families and UDP, and counts who comes.
pub struct Inside {
    pub port: u16,
    reached: Arc<AtomicUsize>,
}

impl Inside {
    pub async fn open() -> Self {
        let v4 = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = v4.local_addr().unwrap().port();
        let reached = Arc::new(AtomicUsize::new(0));
        let count = reached.clone();
        tokio::spawn(serve(v4, move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecret".to_owned()
        }));
        // A machine without IPv6 has nothing there to be reached.
        if let Ok(v6) = TcpListener::bind(("::1", port)).await {
            let count = reached.clone();
            tokio::spawn(serve(v6, move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                String::new()
            }));
        }
        if let Ok(udp) = UdpSocket::bind(("127.0.0.1", port)).await {
            let count = reached.clone();
            tokio::spawn(async move {
                while udp.recv_from(&mut [0; 64]).await.is_ok() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { port, reached }
    }

    /// How often it was reached. A connection that was made is counted by now: it is in the
    /// backlog before its maker knows, and one more that we make ourselves comes after it.
    pub async fn reached(&self) -> usize {
        let mut seen = Vec::new();
        for address in ["127.0.0.1", "::1"] {
            let before = self.reached.load(Ordering::SeqCst);
            let Ok(mut stream) = TcpStream::connect((address, self.port)).await else { continue };
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            // The answer, or the end of the connection, comes after the count.
            let _ = stream.read(&mut [0; 512]).await;
            seen.push(before);
        }
        self.reached.load(Ordering::SeqCst) - seen.len()
    }
}

async fn serve(listener: TcpListener, answer: impl Fn(&str) -> String) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut head = vec![0; 4096];
        // Counted by `answer` also if nothing was sent.
        let read = tokio::time::timeout(std::time::Duration::from_secs(1), stream.read(&mut head));
        let len = read.await.map_or(0, |read| read.unwrap_or(0));
        let text = answer(&String::from_utf8_lossy(&head[..len]));
        let _ = stream.write_all(text.as_bytes()).await;
    }
}

/// A server that answers every request with a redirect to what its query says.
pub async fn redirector() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, |head| {
        let to = head.split_once("?to=").and_then(|(_, rest)| rest.split_once(' '));
        let to = to.map_or("", |(to, _)| to);
        let to = percent_decode(to);
        format!(
            "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
    }));
    address
}

/// A server that is allowed to be reached.
pub async fn welcome(address: &str) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, |_| {
        "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nwelcome".to_owned()
    }));
    address
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Names with scripted answers, one after the other, the last one for ever; all other names
/// are the system's.
#[derive(Debug, Default)]
pub struct Names {
    script: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    pub asked: AtomicUsize,
}

impl Names {
    pub fn new(script: &[(&str, &[&[&str]])]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        let script = script
            .iter()
            .map(|(name, answers)| ((*name).to_owned(), answers.iter().map(parse).collect()))
            .collect();
        Arc::new(Self { script: Mutex::new(script), asked: AtomicUsize::new(0) })
    }

    pub fn resolver(self: &Arc<Self>) -> Resolver {
        Resolver::custom(Arc::new(Handle(self.clone())))
    }

    fn next(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut script = self.script.lock().unwrap();
        let answers = script.get_mut(name.trim_end_matches('.'))?;
        Some(if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() })
    }
}

#[derive(Debug)]
struct Handle(Arc<Names>);

impl Resolve for Handle {
    fn resolve(&self, name: Name) -> Resolving {
        let scripted = self.0.next(name.as_str());
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = match scripted {
                Some(ips) => ips.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect(),
                None if name.as_str().ends_with(".test") => {
                    return Err(io::Error::other("no such name"));
                }
                None => tokio::net::lookup_host((name.as_str(), 0)).await?.collect(),
            };
            Ok(addresses.into_iter())
        })
    }
}
