//! Every message that the log can hold, with its level and what it means: one table.
//!
//! `tell!` is the only way to write one (`clippy.toml` forbids the others), and
//! `docs/log-messages.md` is held to the table by a test.

use tracing::Level;

/// A message of the log. What differs from one time to the next stands in its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// How much it matters: `WARN` wants a look, `ERROR` a mend.
    pub level: Level,
    /// The words, always the same.
    pub text: &'static str,
    /// What has happened, and what to do.
    pub meaning: &'static str,
}

/// Names each message, and puts all of them into [`MESSAGES`] in this order.
macro_rules! messages {
    ($($name:ident: $level:ident $text:literal, $meaning:literal;)+) => {
        $(pub(crate) const $name: Message =
            Message { level: Level::$level, text: $text, meaning: $meaning };)+

        /// All messages, from the start of the process to its end.
        pub const MESSAGES: &[Message] = &[$($name),+];
    };
}

messages! {
    CORE_DUMPS: WARN "core dumps cannot be switched off",
        "The kernel refused it. If the process crashes, a dump may hold keys. Forbid dumps on the node.";
    DUMPABLE: WARN "memory cannot be closed to other processes",
        "The kernel refused it. Processes of the same user may read keys from our memory.";
    CANNOT_START: ERROR "cannot start",
        "`problem` says why; mostly the port is taken. The process ends with 1.";
    LISTENING: INFO "listening",
        "Probes, metrics and status answer at `address`.";
    STARTED: INFO "started",
        "The settings were read, and the first look begins.";
    NONE_FOUND: WARN "no certificates found; mount Secrets with tls.crt and tls.key beneath it, or set CERT_RELOADER__CERTIFICATES__NAME__DIR",
        "There is nothing to do. A directory that appears later is taken in.";
    BINDING_FOUND: INFO "binding found",
        "`file` is looked after from now on, under the name `binding`.";
    LEFT_OUT: WARN "directory left out",
        "A directory beneath `CERTS_DIR` cannot be a certificate. `problem` says why.";
    POLLED: ERROR "files are polled",
        "The kernel watches no more files for us. `problem` names the limit to raise. Changes are found after up to `POLL_INTERVAL`.";
    WATCHED_AGAIN: INFO "files are watched again",
        "What forbade it has passed.";
    EVENTS_LOST: DEBUG "file events were lost",
        "There were more than the kernel keeps (`fs.inotify.max_queued_events`). All files are looked at.";
    NEVER_RENEWED: WARN "the mount never shows a renewal",
        "kubelet does not update this mount (`subPath`). Mount the directory.";
    GENERATION: INFO "generation seen",
        "The files hold something new that can be served.";
    TEMPORARY: WARN "temporary certificate",
        "cert-manager has put its temporary certificate there. Look at the CertificateRequest if it lasts.";
    CREDENTIALS: WARN "credentials cannot be used",
        "The files of the Admin API's token, headers or client certificate cannot be read. `problem` names the file. The last good ones stay.";
    ELSEWHERE: WARN "an Admin API answers elsewhere",
        "None answers at `ADMIN__URL`, and one does at a usual port beside it. Correct `ADMIN__URL`.";
    HANDSHAKES: INFO "handshakes are made",
        "What Kong serves is proven at `port`.";
    NO_HANDSHAKES: INFO "no handshakes are made",
        "Kong's word counts. `why` tells what is missing for a proof.";
    OLD_DEFAULT: WARN "clients without SNI get an older certificate",
        "`ssl_cert` of `kong.conf` is an older certificate for names of a mounted one. Renew that file, and name it in `RELOAD__FILES`.";
    PUSHED: INFO "pushed",
        "Kong has accepted the new content. `why` tells the rule.";
    CA_CREATED: INFO "CA certificate created",
        "`object` is the id by which services and plugins refer to it.";
    LOADED: INFO "configuration loaded",
        "`DECLARATIVE__FILE` was sent to Kong, with ours in it.";
    LOADED_AGAIN: WARN "kong ran another configuration than the file's: it is loaded again",
        "Someone else has posted a configuration, or Kong has started with another. `DECLARATIVE__FILE` wins. Use one or the other.";
    OBJECT_LEFT_OUT: WARN "left out of the configuration",
        "Kong takes the configuration without `object` only. The rest is in place.";
    ANNOUNCED: INFO "announced",
        "Kong holds it, and this node did not serve it in time. All nodes were told once more.";
    NOT_ANNOUNCED: WARN "not announced",
        "The same, and Kong did not take the announcement. `problem` says why.";
    NO_SIGNAL: WARN "nginx could not be told to reload",
        "A file that Kong reads itself will be renewed some day, and the signal would fail. `problem` has the mend.";
    SIGNALLED: INFO "nginx signalled",
        "The nginx master `pid` got SIGHUP.";
    RELOADED: INFO "nginx has reloaded",
        "New workers run.";
    NOT_RELOADED: WARN "nginx was told to reload, and went on with what it had",
        "It cannot take one of its files. Its error log says which.";
    NOT_RELOADED_AGAIN: DEBUG "nginx was told to reload again, and went on with what it had",
        "The same, told before.";
    IN_SYNC: INFO "in sync",
        "Kong serves what the file holds, for all of its names.";
    HELD: INFO "held",
        "File and Kong differ, and Kong's may be right. See the state `held`.";
    HELD_LONG: WARN "held for longer than HOLD",
        "The same, and it lasts. `detail` says what ends it.";
    NOT_SEEN: DEBUG "not seen served yet",
        "Kong holds it, and handshakes are under way.";
    NOT_READ: DEBUG "not read by nginx yet",
        "nginx was told to reload, and has no new workers yet.";
    NOT_PUSHED: INFO "not pushed",
        "It waits. `reason` and `detail` say for what.";
    NOT_IN_PLACE: WARN "not in place",
        "Kong does not serve the file. `state`, `reason` and `detail` say why, and what to do.";
    ODD: WARN "served with a warning",
        "Kong serves it, and some clients may mind. `warning` says what.";
    LOOKED_AT: DEBUG "looked at",
        "A look changed nothing.";
    READY: INFO "ready",
        "`/readyz` answers 200 from now on.";
    STOPPING: INFO "stopping",
        "`signal` came. What is under way is finished.";
    CUT_OFF: WARN "a call to kong was cut off by the shutdown",
        "Kong had not answered within 2 s. The next start looks at what became of it.";
    STOPPED: INFO "stopped",
        "The process ends with 0.";
}

/// Writes a message of the table to the log: `tell!(IN_SYNC, binding = %name)`.
macro_rules! tell {
    ($message:ident $(, $($fields:tt)+)?) => {{
        const MESSAGE: $crate::log::Message = $crate::log::$message;
        ::tracing::event!(MESSAGE.level, $($($fields)+,)? "{}", MESSAGE.text);
    }};
}
pub(crate) use tell;
