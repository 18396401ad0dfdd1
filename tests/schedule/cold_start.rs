//! Many bindings beside a Kong that has nothing of them: it is read by pages, and each certificate is
//! created by one request.

use testkit::KongModel;

use super::*;

/// So many are read by pages, and not all under way at a time.
const COUNT: usize = 80;
/// So many are: two for each connection.
const UNDER_WAY: usize = 8;
/// Longer than it takes until Kong is compared again.
const RESYNC: Duration = Duration::from_secs(6 * 60);

/// A pod with `web` for `a.test`, which is the first that is created, and others.
fn pod_with(web: &CertifiedPair) -> Pod {
    let pod = Pod::new();
    publish_all(&pod, web);
    pod
}

fn publish_all(pod: &Pod, web: &CertifiedPair) {
    let pki = Pki::at(START);
    pod.publish("web", web);
    for number in 1..COUNT {
        pod.publish(&format!("x{number:02}"), &pki.pair(&[&format!("x{number}.test")]));
    }
}

async fn until_all_in_sync(pod: &Pod) {
    for number in 1..COUNT {
        pod.until_named(&format!("x{number:02}"), |shown| shown.state == State::InSync).await;
    }
    pod.until_state(State::InSync).await;
}

fn count(kong: &KongInProcess, method: &str) -> usize {
    kong.times_of(method).len()
}

/// Calls at the object of `web`.
fn calls_at_web(kong: &KongInProcess) -> Vec<&'static str> {
    let path = path_of("web");
    let calls = kong.calls().into_iter().filter(|call| call.path == path);
    calls.map(|call| call.method).collect()
}

fn objects(kong: &KongInProcess) -> usize {
    shown(kong, "/certificates?size=1000")["data"].as_array().unwrap().len()
}

/// How many writes of `web` came to this.
fn pushes(pod: &Pod, outcome: &str) -> u64 {
    pod.metric(&format!(r#"pushes_total{{binding="web",outcome="{outcome}"}}"#))
}

/// What someone else sends.
fn body(pair: &CertifiedPair, snis: &[&str], tag: &str) -> Value {
    json!({"cert": pair.chain_pem(), "key": pair.key_pem(), "snis": snis, "tags": [tag]})
}

const OURS: &str = "managed-by:kong-cert-reloader:default";

#[tokio::test(flavor = "local", start_paused = true)]
async fn each_certificate_is_created_by_one_request() {
    let ([pair, ..], kong) = (generations(), KongInProcess::new());
    let mut pod = pod_with(&pair);
    pod.start(&kong);
    until_all_in_sync(&pod).await;
    let calls = kong.calls_since(Duration::ZERO);
    assert_eq!(calls[..2], ["GET /", "GET /certificates?size=1000"]);
    assert_eq!(calls[2..], vec!["POST /certificates"; COUNT]);
    assert_eq!(shown(&kong, "/certificates/a.test"), shown(&kong, &path_of("web")));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_another_replica_created_since_the_list_was_read_is_not_replaced_unseen() {
    let [older, ours, newer] = generations();
    // What is there, and with which names; what follows, and what is called for it after the POST.
    for (theirs, snis, expected, calls) in [
        (&newer, &["a.test"][..], (State::Held, "kong_newer"), &["GET"][..]),
        (&newer, &[], (State::Held, "kong_newer"), &["GET"]),
        (&ours, &["a.test"], (State::InSync, ""), &["GET"]),
        // It lost its name in a race, and whoever made it has not come to mend it yet.
        (&ours, &[], (State::InSync, ""), &["GET", "PUT"]),
        (&older, &["a.test"], (State::InSync, ""), &["GET", "PUT"]),
    ] {
        let kong = KongInProcess::new();
        let put = Request::json("PUT", &path_of("web"), &body(theirs, snis, OURS));
        kong.model().before_next("POST", "/certificates", move |model| drop(model.answer(&put)));
        let mut pod = pod_with(&ours);
        pod.start(&kong);
        pod.until(|web| web.state != State::Pending).await;
        assert_eq!(pod.web(), expected);
        assert_eq!(calls_at_web(&kong), calls);
        assert_within(kong.elapsed(), Duration::ZERO, s(1));
        let kept = if expected.0 == State::Held { theirs } else { &ours };
        assert_eq!(shown(&kong, &path_of("web"))["cert"], kept.chain_pem());
        assert_eq!((pushes(&pod, "refused"), pushes(&pod, "failed")), (0, 0));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn replicas_that_start_together_create_each_certificate_once() {
    let ([pair, ..], kong) = (generations(), KongInProcess::new());
    let mut pods = [pod_with(&pair), pod_with(&pair), pod_with(&pair)];
    let [first, others @ ..] = &pods;
    for (pod, number) in others.iter().flat_map(|pod| (1..COUNT).map(move |number| (pod, number))) {
        let name = format!("x{number:02}");
        std::fs::remove_dir_all(pod.directory(&name)).unwrap();
        std::os::unix::fs::symlink(first.directory(&name), pod.directory(&name)).unwrap();
    }
    for pod in &mut pods {
        pod.start(&kong);
    }
    for pod in &pods {
        until_all_in_sync(pod).await;
    }
    assert_eq!((writes(&kong), objects(&kong), count(&kong, "PUT")), (COUNT as u64, COUNT, 0));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_name_that_was_taken_since_the_list_was_read_is_decided_about_as_ever() {
    let [theirs, ours, _] = generations();
    for (tag, expected, kept) in [
        ("team:edge", (State::InSync, ""), &ours),
        ("managed-by-ingress-controller", (State::Refused, "other_controller"), &theirs),
    ] {
        // Before ours is created, or in the middle of that: then ours is there, without the name.
        for is_amid in [false, true] {
            let kong = KongInProcess::new();
            let create = Request::json("POST", "/certificates", &body(&theirs, &["a.test"], tag));
            let act = move |model: &mut KongModel| drop(model.answer(&create));
            if is_amid {
                kong.model().amid_next("POST", "/certificates", act);
            } else {
                kong.model().before_next("POST", "/certificates", act);
            }
            let mut pod = pod_with(&ours);
            pod.start(&kong);
            pod.until(|web| web.state != State::Pending).await;
            assert_eq!(pod.web(), expected, "{is_amid}");
            assert_within(kong.elapsed(), Duration::ZERO, s(1));
            let held = shown(&kong, "/certificates/a.test");
            assert_eq!((&held["tags"], &held["cert"]), (&json!([tag]), &json!(kept.chain_pem())));
            assert_eq!(count(&kong, "PUT"), 0);
        }
    }
}

/// Neither RBAC nor what stands between keeps a certificate from Kong that it would take by `PUT`.
#[tokio::test(flavor = "local", start_paused = true)]
async fn where_no_post_is_let_through_it_is_asked_first_and_put() {
    let [pair, ..] = generations();
    let page = "<html><title>405 Not Allowed</title></html>";
    for fault in [
        None,
        Some(Fault::status(403)),
        Some(Fault::status(404)),
        Some(Fault::status(405)),
        Some(Fault::other(405, false, page)),
    ] {
        let kong = KongInProcess::new();
        match fault {
            Some(fault) => kong.inject(fault.only("POST").always()),
            None => kong.model().withhold("create", "/certificates"),
        }
        let mut pod = pod_with(&pair);
        pod.start(&kong);
        until_all_in_sync(&pod).await;
        assert_eq!((count(&kong, "PUT"), objects(&kong)), (COUNT, COUNT));
        assert_eq!(calls_at_web(&kong), ["GET", "PUT"]);
        // Those had begun when the first was answered.
        assert_within(count(&kong, "POST"), 1, UNDER_WAY);
        assert_eq!((pushes(&pod, "refused"), pushes(&pod, "failed")), (0, 0));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn where_no_post_is_let_through_what_another_replica_created_is_not_replaced_unseen() {
    let ([_, ours, newer], kong) = (generations(), KongInProcess::new());
    kong.model().withhold("create", "/certificates");
    let put = Request::json("PUT", &path_of("web"), &body(&newer, &["a.test"], OURS));
    kong.model().before_next("GET", &path_of("web"), move |model| drop(model.answer(&put)));
    let mut pod = pod_with(&ours);
    pod.start(&kong);
    pod.until_state(State::Held).await;
    assert_eq!(calls_at_web(&kong), ["GET", "GET"]);
    assert_eq!(shown(&kong, &path_of("web"))["cert"], newer.chain_pem());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_was_not_let_through_in_one_pass_is_tried_in_another() {
    let ([pair, renewed, _], kong) = (generations(), KongInProcess::new());
    kong.inject(Fault::status(403).only("POST").times(4));
    let mut pod = pod_with(&pair);
    pod.start(&kong);
    until_all_in_sync(&pod).await;
    let before = (count(&kong, "POST"), count(&kong, "PUT"));
    assert_within(before.1, COUNT - UNDER_WAY, COUNT);
    kong.model().forget_everything();
    publish_all(&pod, &renewed);
    pod.until_in_sync_with(&renewed).await;
    until_all_in_sync(&pod).await;
    assert_eq!((count(&kong, "POST"), count(&kong, "PUT")), (before.0 + COUNT, before.1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_creation_whose_answer_is_lost_comes_to_its_end_whether_or_not_it_landed() {
    let [pair, ..] = generations();
    // How many are put after another look: those that did not land, if they were not sent again at
    // once; and after an answer that is no Admin API's, whatever is not under way yet.
    for (fault, puts) in [
        (Fault::timeout(s(10)), 1..=1),
        (Fault::timeout(s(10)).lands_after(s(1)), 0..=0),
        (Fault::timeout(s(10)).landed(), 0..=0),
        (Fault::broken(), 0..=0),
        (Fault::broken().landed(), 0..=0),
        (Fault::broken().landed().times(2), 0..=0),
        (Fault::status(500), 1..=1),
        (Fault::status(500).landed(), 0..=0),
        (Fault::status(504).lands_after(ms(5)), 0..=0),
        (Fault::half_json(), 0..=0),
        (Fault::too_large().landed(), 1..=COUNT),
        (Fault::other(200, true, "{}").landed(), 0..=0),
        (Fault::other(201, false, "").landed(), 1..=COUNT),
    ] {
        let kong = KongInProcess::new();
        kong.inject(fault.only("POST"));
        let mut pod = pod_with(&pair);
        pod.start(&kong);
        until_all_in_sync(&pod).await;
        sleep(RESYNC).await;
        assert!(puts.contains(&count(&kong, "PUT")), "{} PUTs, not {puts:?}", count(&kong, "PUT"));
        assert_eq!((objects(&kong), writes(&kong)), (COUNT, COUNT as u64));
    }
}

/// What may have landed is ours: another pair in its place is no other replica's (rule 8).
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_creation_that_timed_out_but_landed_is_rolled_back_with_its_file_at_once() {
    let ([older, newer, _], kong) = (generations(), KongInProcess::new());
    kong.inject(Fault::timeout(s(10)).landed().only("POST"));
    let mut pod = pod_with(&newer);
    pod.start(&kong);
    sleep(s(5)).await;
    pod.publish("web", &older);
    pod.until_in_sync_with(&older).await;
    assert_within(kong.elapsed(), s(10), s(12));
    assert_eq!(kong.history(), leaves(&[&newer, &older]));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_kong_will_not_have_created_is_refused_and_sent_once() {
    let ([pair, renewed, _], kong) = (generations(), KongInProcess::new());
    kong.inject(Fault::refusal(400, "schema violation (cert: no)").only("POST"));
    let mut pod = pod_with(&pair);
    pod.start(&kong);
    pod.until_state(State::Refused).await;
    sleep(HOUR).await;
    assert_eq!(pod.web(), (State::Refused, "by_kong"));
    assert_eq!((count(&kong, "POST"), objects(&kong)), (COUNT, COUNT - 1));
    pod.publish("web", &renewed);
    pod.until_in_sync_with(&renewed).await;
}

/// A Kong that made an id of its own would make another object at each try.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_creation_that_is_answered_with_another_id_is_no_success() {
    let ([pair, ..], kong) = (generations(), KongInProcess::new());
    let mut is_first = true;
    kong.witnessed_by(Box::new(move |model, _, request| {
        let mut request = request.clone();
        if request.method == "POST" && std::mem::take(&mut is_first) {
            let mut body: Value = serde_json::from_slice(&request.body).unwrap();
            body.as_object_mut().unwrap().remove("id").unwrap();
            request.body = body.to_string().into_bytes();
        }
        model.answer(&request)
    }));
    let mut pod = pod_with(&pair);
    pod.start(&kong);
    let web = pod.until(|web| web.state != State::Pending).await;
    assert_eq!(web.state, State::Unreachable);
    assert!(web.message.unwrap().contains("not kong's Admin API"));
    assert_eq!((pushes(&pod, "applied"), pushes(&pod, "failed")), (0, 1));
    // It has our name, and nobody else's: it is taken over.
    until_all_in_sync(&pod).await;
    assert_eq!(objects(&kong), COUNT);
}

/// Those between them are in place, and take no connection.
#[tokio::test(flavor = "local", start_paused = true)]
async fn all_connections_are_used_where_few_of_many_are_to_be_written() {
    const CONNECTIONS: usize = 4;
    const APART: usize = 10;
    let ([pair, ..], kong) = (generations(), KongInProcess::new());
    let mut pod = pod_with(&pair);
    pod.start(&kong);
    until_all_in_sync(&pod).await;
    pod.stop().await;
    for number in (1..COUNT).step_by(APART) {
        let delete = Request::json("DELETE", &path_of(&format!("x{number:02}")), &json!({}));
        kong.model().answer(&delete);
    }
    let before = count(&kong, "POST");
    pod.start(&kong);
    until_all_in_sync(&pod).await;
    assert_eq!(objects(&kong), COUNT);
    // Calls take as long as each other: those that are made together are made at one time.
    let times: BTreeSet<Duration> = kong.times_of("POST")[before..].iter().copied().collect();
    assert_eq!(times.len(), COUNT / APART / CONNECTIONS, "{times:?}");
}
