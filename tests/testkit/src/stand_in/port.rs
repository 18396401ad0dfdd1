//! A port that can be closed and opened again, and is nobody else's meanwhile.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

#[derive(Debug)]
pub(super) struct Port {
    address: SocketAddr,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Bound and not listening: connections are refused.
    Reserved(TcpSocket),
    Open {
        close: oneshot::Sender<()>,
        task: JoinHandle<()>,
    },
    Changing,
}

impl Port {
    /// A free port of the loopback address, closed.
    pub(super) fn reserve() -> Self {
        let socket = bind((Ipv4Addr::LOCALHOST, 0).into());
        Self { address: socket.local_addr().unwrap(), state: State::Reserved(socket) }
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
        self.state = match std::mem::replace(&mut self.state, State::Changing) {
            State::Reserved(socket) => {
                let (close, closed) = oneshot::channel();
                let listener = socket.listen(1024).unwrap();
                State::Open { close, task: tokio::spawn(accept(listener, serve, closed)) }
            }
            state => state,
        };
    }

    /// Refuses connections; ends those that are open.
    pub(super) async fn close(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Changing) {
            State::Open { close, task } => {
                drop(close);
                task.await.unwrap();
                State::Reserved(bind(self.address))
            }
            state => state,
        };
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

/// A port that we had may have connections that are still ending; a new one is shared with nobody,
/// which is only so without `SO_REUSEADDR`.
fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(address.port() != 0).unwrap();
    socket.bind(address).unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket
}
