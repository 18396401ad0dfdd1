//! A port that can be closed and opened again, and is nobody else's meanwhile.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

#[derive(Debug)]
pub(super) struct Port {
    address: SocketAddr,
    /// Bound and not listening: alone it has connections refused, and nobody else gets the port.
    _reserved: TcpSocket,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    close: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Port {
    /// A free port of the loopback address, closed.
    pub(super) fn reserve() -> Self {
        let reserved = TcpSocket::new_v4().unwrap();
        reserved.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        // Not before it is bound: a new one is shared with nobody.
        share(&reserved);
        Self { address: reserved.local_addr().unwrap(), _reserved: reserved, open: None }
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens, and hands each connection to `serve`.
    pub(super) fn open<F, S>(&mut self, serve: F)
    where
        F: Fn(TcpStream) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        if self.open.is_none() {
            let socket = TcpSocket::new_v4().unwrap();
            share(&socket);
            socket.bind(self.address).unwrap();
            let (close, closed) = oneshot::channel();
            let task = tokio::spawn(accept(socket.listen(1024).unwrap(), serve, closed));
            self.open = Some(Open { close, task });
        }
    }

    /// Refuses connections; ends those that are open.
    pub(super) async fn close(&mut self) {
        if let Some(Open { close, task }) = self.open.take() {
            drop(close);
            task.await.unwrap();
        }
    }
}

async fn accept<F, S>(listener: TcpListener, serve: F, mut closed: oneshot::Receiver<()>)
where
    F: Fn(TcpStream) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut closed => break,
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(serve(stream));
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// Takes a port together with what else is ours there: the one that reserves it, and connections that
/// are still ending.
fn share(socket: &TcpSocket) {
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
}
