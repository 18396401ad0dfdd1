//! Programs that are run to their end.

use testkit::{Finished, run_command};

#[tokio::test]
async fn a_finished_program_leaves_its_code_and_what_it_wrote() {
    let script = "echo out; echo err >&2; exit 3";
    let (stdout, stderr) = ("out\n".to_owned(), "err\n".to_owned());
    let finished = run_command("/bin/sh", &["-c", script], &[]).await;
    assert_eq!(finished, Finished { code: 3, stdout, stderr });
}

#[tokio::test]
async fn a_program_sees_nothing_but_its_settings() {
    let finished = run_command("/usr/bin/env", &[], &[("ADMIN__URL", "http://kong:8001")]).await;
    assert_eq!(finished.stdout, "CERT_RELOADER__ADMIN__URL=http://kong:8001\n");
}
