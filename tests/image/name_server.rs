//! The name server of a cluster.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use testkit::missing;
use tokio::net::UdpSocket;

const HEADER: usize = 12;
/// The type of a question for an address of IPv4.
const A: [u8; 2] = [0, 1];

/// Knows one name, which is here.
pub(crate) struct NameServer {
    address: Ipv4Addr,
    asked: Arc<Mutex<BTreeSet<String>>>,
}

impl NameServer {
    /// `None`, and told so, where the port of name servers is taken.
    pub(crate) async fn of(name: &'static str) -> Option<Self> {
        // resolv.conf can name no other port, so the address has to be one that nobody else has.
        let [_, a, b, c] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 128 | a, b, c);
        let socket = match UdpSocket::bind(SocketAddr::from((address, 53))).await {
            Ok(socket) => socket,
            Err(problem) => {
                missing(&format!("names in the image: port 53 of {address}: {problem}"));
                return None;
            }
        };
        let asked = Arc::default();
        tokio::spawn(serve(socket, name, Arc::clone(&asked)));
        Some(Self { address, asked })
    }

    /// `/etc/resolv.conf` as kubelet writes it for the namespace `kong`: a name with less than five
    /// dots is tried with each of these ends first.
    pub(crate) fn resolv_conf(&self) -> String {
        let search = "kong.svc.cluster.local svc.cluster.local cluster.local";
        format!("search {search}\nnameserver {}\noptions ndots:5\n", self.address)
    }

    /// Which names it was asked for.
    pub(crate) fn asked(&self) -> BTreeSet<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(socket: UdpSocket, known: &str, asked: Arc<Mutex<BTreeSet<String>>>) {
    let mut packet = [0; 512];
    while let Ok((length, client)) = socket.recv_from(&mut packet).await {
        let question = &packet[..length];
        let (name, end) = name_in(question);
        let answer = answer(question, end, name == known);
        asked.lock().unwrap().insert(name);
        socket.send_to(&answer, client).await.unwrap();
    }
}

/// The name that is asked for, and where it ends.
fn name_in(question: &[u8]) -> (String, usize) {
    let mut labels = Vec::new();
    let mut at = HEADER;
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]));
        at = end;
    }
    (labels.join("."), at + 1)
}

/// An address, none of the kind that is asked for, or no such name: RFC 1035, section 4.
fn answer(question: &[u8], end_of_name: usize, is_known: bool) -> Vec<u8> {
    let has_address = is_known && question[end_of_name..end_of_name + 2] == A;
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, if is_known { 0x80 } else { 0x83 }]);
    answer.extend([0, 1, 0, u8::from(has_address), 0, 0, 0, 0]);
    // The question once more, with its type and class.
    answer.extend(&question[HEADER..end_of_name + 4]);
    if has_address {
        // The name above; IPv4, internet, for 5 s, four bytes.
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 127, 0, 0, 1]);
    }
    answer
}
