//! `exec` against a store: what the application gets, and what the agent says when it gets nothing.

#![allow(clippy::unwrap_used)] // tests; clippy.toml does not reach helpers of integration tests

mod support;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rstest::rstest;
use rustix::process::{Pid, Signal, kill_process};
use rustls::{NamedGroup, ProtocolVersion};

use crate::support::{CANARY, Container, Reply, Store};

#[test]
fn the_application_gets_its_secrets_and_none_of_our_variables() {
    let store = Store::start(|_, _| Reply::env(&[("DB_PASSWORD", CANARY.as_bytes())]));
    let container = Container::of(&store);

    let output = run(container.agent(&["exec", "--", "env"]).env("PLAIN", "1"));

    assert_eq!(
        text(&output.stdout),
        format!("PATH=/usr/bin:/bin\nPLAIN=1\nDB_PASSWORD={CANARY}\n")
    );
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_plain_variable_never_overrides_a_secret_one() {
    let store = Store::start(|_, _| Reply::env(&[("A", b"secret")]));

    let output =
        run(Container::of(&store).agent(&["exec", "--", "printenv", "A"]).env("A", "plain"));

    assert_eq!(text(&output.stdout), "secret\n");
}

#[test]
fn the_request_carries_the_token_and_names_no_secret() {
    let store = Store::start(|_, _| Reply::env(&[]));

    run(&mut Container::of(&store).agent(&["exec", "--", "true"]));

    let seen = store.seen();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].head.starts_with("POST /v1/resolve HTTP/1.1\r\n"), "{}", seen[0].head);
    let head = seen[0].head.to_ascii_lowercase();
    assert!(head.contains("\r\nauthorization: bearer t0ken\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
    assert_eq!(seen[0].body, r#"{"version":1,"container":"web","want":["env"]}"#);
}

#[test]
fn the_connection_is_tls_1_3_with_the_hybrid_key_exchange() {
    let store = Store::start(|_, _| Reply::env(&[]));

    run(&mut Container::of(&store).agent(&["exec", "--", "true"]));

    let seen = store.seen();
    assert_eq!(seen[0].version, ProtocolVersion::TLSv1_3);
    assert_eq!(seen[0].group, NamedGroup::X25519MLKEM768);
}

#[test]
fn a_store_is_found_by_name() {
    let store = Store::start(|_, _| Reply::env(&[]));
    let container = Container::at(&format!("https://localhost:{}/", store.port), &store.ca);

    let output = run(&mut container.agent(&["exec", "--", "true"]));

    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn proxy_variables_are_the_applications_and_not_ours() {
    let store = Store::start(|_, _| Reply::env(&[]));
    let container = Container::of(&store);
    let mut agent = container.agent(&["exec", "--", "printenv", "https_proxy"]);
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
    {
        agent.env(name, "http://127.0.0.1:1");
    }

    let output = run(&mut agent);

    assert_eq!(text(&output.stdout), "http://127.0.0.1:1\n");
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Store::start(|_, _| Reply::env(&[("A", b"wrong")]));
    let location = format!("location: {}/v1/resolve\r\n", elsewhere.url());
    let store = Store::start(move |count, _| match count {
        0 => Reply::raw(307, &location, Vec::new()),
        _ => Reply::env(&[("A", b"right")]),
    });

    let output = run(&mut Container::of(&store).agent(&["exec", "--", "printenv", "A"]));

    assert_eq!(text(&output.stdout), "right\n");
    assert!(text(&output.stderr).contains("answered with status 307"), "{}", text(&output.stderr));
    assert!(elsewhere.seen().is_empty());
}

#[test]
fn a_stranger_is_not_asked_and_waited_for() {
    let stranger = Store::start(|_, _| Reply::env(&[]));
    let store = Store::start(|_, _| Reply::env(&[]));
    let container = Container::at(&stranger.url(), &store.ca);

    let mut waiting = Waiting::spawn(&mut container.agent(&["exec", "--", "true"]));

    assert!(waiting.first_line().contains("invalid peer certificate"), "{:?}", waiting.said);
    assert!(waiting.child.try_wait().unwrap().is_none());
    assert_eq!(waiting.end_with(Signal::TERM).code(), Some(143));
    assert!(stranger.seen().is_empty(), "no token went to the stranger");
}

#[test]
fn a_store_without_tls_1_3_is_not_asked() {
    let store = Store::start_with(&rustls::version::TLS12, |_, _| Reply::env(&[]));

    let container = Container::of(&store);
    let mut waiting = Waiting::spawn(&mut container.agent(&["exec", "--", "true"]));

    assert!(waiting.first_line().contains("cannot reach"), "{:?}", waiting.said);
    waiting.end_with(Signal::TERM);
    assert!(store.seen().is_empty());
}

#[test]
fn what_may_pass_is_waited_for_and_each_cause_is_said_once() {
    let store = Store::start(|count, _| match count {
        0 | 1 => Reply::error(503, "sealed", "the store is sealed"),
        2 => Reply::error(503, "unavailable", "cannot reach the API server"),
        3 => Reply::error(401, "unauthenticated", "the token has expired"),
        4 => Reply::raw(502, "", b"<html>".to_vec()),
        5 => Reply::raw(404, "", b"no such page".to_vec()),
        _ => Reply::env(&[("A", b"1")]),
    });

    let output = run(&mut Container::of(&store).agent(&["exec", "--", "printenv", "A"]));

    assert_eq!(text(&output.stdout), "1\n");
    let expected = [
        "the store is sealed",
        "cannot reach the API server",
        "the token has expired",
        "the store answered with status 502 Bad Gateway",
        "the store answered with status 404 Not Found",
    ]
    .map(|cause| format!("watchword-agent: waiting for the secrets of container `web`: {cause}\n"));
    assert_eq!(text(&output.stderr), expected.concat());
}

#[test]
fn the_token_is_read_anew_at_each_try() {
    let container = Container::at("https://127.0.0.1:1", "");
    let token = container.path("token");
    let store = Store::start(move |count, _| {
        fs::write(&token, "renewed").unwrap();
        match count {
            0 => Reply::error(401, "unauthenticated", "the token has expired"),
            _ => Reply::env(&[]),
        }
    });
    let mut agent = container.agent(&["exec", "--", "true"]);

    run(agent.env("WATCHWORD_STORE", store.url()).env("WATCHWORD_CA", &store.ca));

    let seen = store.seen();
    assert!(seen[0].head.contains("Bearer t0ken\r\n"));
    assert!(seen[1].head.contains("Bearer renewed\r\n"));
}

#[test]
fn a_token_that_is_not_there_yet_is_waited_for() {
    let store = Store::start(|_, _| Reply::env(&[]));
    let container = Container::of(&store);
    fs::remove_file(container.path("token")).unwrap();

    let mut waiting = Waiting::spawn(&mut container.agent(&["exec", "--", "true"]));
    assert!(waiting.first_line().contains("cannot read the token"), "{:?}", waiting.said);
    fs::write(container.path("token"), "t0ken").unwrap();

    assert_eq!(waiting.child.wait().unwrap().code(), Some(0));
}

#[rstest]
#[case(404, "not_found", "no secret `shop/db`")]
#[case(403, "denied", "`bank/db` is not in the space of `/shop/web`")]
#[case(422, "invalid", "`shop/db` has no key `password`")]
#[case(400, "bad_request", "unknown version 1")]
fn a_refusal_ends_the_container_with_the_stores_words(
    #[case] status: u16,
    #[case] code: &'static str,
    #[case] message: &'static str,
) {
    let store = Store::start(move |_, _| Reply::error(status, code, message));
    let container = Container::of(&store);

    let output = run(&mut container.agent(&["exec", "--", "echo", "started"]));

    assert_eq!(output.status.code(), Some(78));
    assert_eq!(text(&output.stdout), "");
    assert_eq!(text(&output.stderr), format!("Failed to launch container: {message}\n"));
    assert_eq!(container.termination_message(), format!("Failed to launch container: {message}"));
    assert_eq!(store.seen().len(), 1, "asked once");
}

#[rstest]
#[case::not_json(format!("{CANARY} is no JSON"))]
#[case::other_type(format!(r#"{{"env":[{{"name":"A","value":["{CANARY}"]}}]}}"#))]
#[case::string_for_list(format!(r#"{{"env":"{CANARY}"}}"#))]
#[case::cut(format!(r#"{{"env":[{{"name":"A","value":"{CANARY}"#))]
#[case::not_base64(format!(r#"{{"env":[{{"name":"A","value":"{CANARY}*"}}]}}"#))]
fn an_answer_that_cannot_be_read_is_never_quoted(#[case] body: String) {
    let store = Store::start(move |count, _| match count {
        0 => Reply::raw(200, "", body.clone().into_bytes()),
        _ => Reply::env(&[]),
    });

    let output = run(&mut Container::of(&store).agent(&["exec", "--", "true"]));

    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stderr);
    assert!(said.ends_with("the store gave an answer that this agent cannot read\n"), "{said}");
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let store = Store::start(|count, _| match count {
        0 => Reply::raw(200, "", vec![b' '; 5 * 1024 * 1024]),
        _ => Reply::env(&[]),
    });

    let output = run(&mut Container::of(&store).agent(&["exec", "--", "true"]));

    assert!(text(&output.stderr).contains("larger than"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
}

#[rstest]
#[case(Signal::TERM, 143)]
#[case(Signal::INT, 130)]
#[case(Signal::QUIT, 131)]
fn a_signal_ends_the_wait_at_once(#[case] signal: Signal, #[case] code: i32) {
    let container =
        Container::at(&format!("https://127.0.0.1:{}", closed_port()), CA_OF_NOBODY.as_str());
    let agent = container.agent(&["exec", "--", "true"]);
    // A shell ignores SIGINT and SIGQUIT for what it runs in the background, as these tests may be.
    let mut reset = Command::new("env");
    reset.arg("--default-signal").arg(agent.get_program()).args(agent.get_args());
    reset.env_clear().envs(agent.get_envs().map(|(name, value)| (name, value.unwrap())));
    let mut waiting = Waiting::spawn(&mut reset);
    assert!(waiting.first_line().contains("Connection refused"), "{:?}", waiting.said);

    let start = Instant::now();
    let status = waiting.end_with(signal);

    assert_eq!(status.code(), Some(code));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn a_store_that_says_nothing_is_not_waited_for_in_one_try() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let container = Container::at(&url, CA_OF_NOBODY.as_str());

    let mut waiting = Waiting::spawn(&mut container.agent(&["exec", "--", "true"]));

    let line = waiting.first_line();
    assert!(line.ends_with(&format!("`{url}` takes too long")), "{line}");
}

#[test]
fn a_signal_ends_a_try_that_hangs() {
    let (asked, hangs) = mpsc::channel();
    let store = Store::start(move |_, _| {
        asked.send(()).unwrap();
        std::thread::sleep(Duration::from_secs(60));
        Reply::env(&[])
    });
    let container = Container::of(&store);
    let mut waiting = Waiting::spawn(&mut container.agent(&["exec", "--", "true"]));
    hangs.recv_timeout(Duration::from_secs(60)).unwrap();

    assert_eq!(waiting.end_with(Signal::TERM).code(), Some(143));
}

#[test]
fn a_waiting_agent_leaves_no_core() {
    let container =
        Container::at(&format!("https://127.0.0.1:{}", closed_port()), CA_OF_NOBODY.as_str());
    let mut waiting = Waiting::spawn(&mut container.agent(&["exec", "--", "true"]));
    waiting.first_line();

    let limits = fs::read_to_string(format!("/proc/{}/limits", waiting.child.id())).unwrap();

    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    waiting.end_with(Signal::TERM);
}

#[rstest]
#[case::not_in_path("nowhere-to-be-found", 127, "cannot find `nowhere-to-be-found` in PATH")]
#[case::no_such_file("/nowhere/tool", 127, "cannot start `/nowhere/tool`: it, or the interpreter")]
#[case::not_executable("/etc/passwd", 126, "cannot start `/etc/passwd`: Permission denied")]
#[case::a_directory("/usr", 126, "cannot start `/usr`: Permission denied")]
fn a_program_that_cannot_be_started_has_the_exit_code_of_a_shell(
    #[case] program: &str,
    #[case] code: i32,
    #[case] message: &str,
) {
    let store = Store::start(|_, _| Reply::env(&[("A", CANARY.as_bytes())]));
    let container = Container::of(&store);

    let output = run(&mut container.agent(&["exec", "--", program]));

    assert_eq!(output.status.code(), Some(code));
    let expected = format!("Failed to launch container: {message}");
    assert!(text(&output.stderr).starts_with(&expected), "{}", text(&output.stderr));
    assert!(container.termination_message().starts_with(&expected));
}

#[test]
fn a_script_without_an_interpreter_is_no_program() {
    let store = Store::start(|_, _| Reply::env(&[]));
    let container = Container::of(&store);
    let script = container.path("script");
    fs::write(&script, "echo run by a shell\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();

    let output = run(&mut container.agent(&["exec", "--", script.to_str().unwrap()]));

    assert_eq!((output.status.code(), text(&output.stdout)), (Some(126), String::new()));
}

#[rstest]
#[case::code("exit 7", Some(7), None)]
#[case::signal("kill -9 $$", None, Some(9))]
fn the_end_of_the_application_is_its_own(
    #[case] script: &str,
    #[case] code: Option<i32>,
    #[case] signal: Option<i32>,
) {
    let store = Store::start(|_, _| Reply::env(&[]));

    let output = run(&mut Container::of(&store).agent(&["exec", "--", "sh", "-c", script]));

    assert_eq!((output.status.code(), output.status.signal()), (code, signal));
}

#[test]
fn the_application_has_the_agents_process_id() {
    let store = Store::start(|_, _| Reply::env(&[]));
    let container = Container::of(&store);

    let mut agent = container.agent(&["exec", "--", "sh", "-c", "echo $$"]);
    let child = agent.stdout(Stdio::piped()).spawn().unwrap();
    let id = child.id();

    assert_eq!(text(&child.wait_with_output().unwrap().stdout), format!("{id}\n"));
}

/// Everything that a program inherits and that `/proc` shows, with and without the agent.
#[rstest]
#[case::signals_and_rights(&["grep", "-E", "^(Sig[BIC]|Cap|NoNewPrivs|Seccomp:|Umask|Uid|Gid|Groups|Threads)", "/proc/self/status"])]
#[case::limits(&["cat", "/proc/self/limits"])]
#[case::open_files(&["ls", "/proc/self/fd"])]
#[case::environment(&["cat", "/proc/self/environ"])]
#[case::arguments(&["cat", "/proc/self/cmdline"])]
#[case::owner_of_its_proc(&["stat", "-c", "%u %g", "/proc/self/environ"])]
#[case::directory(&["pwd"])]
fn the_application_cannot_tell_that_the_agent_was_there(#[case] program: &[&str]) {
    let store = Store::start(|_, _| Reply::env(&[]));
    let container = Container::of(&store);
    let variables = [("PATH", "/usr/bin:/bin"), ("Z", "1"), ("A", "2"), ("EMPTY", "")];

    let mut direct = Command::new(program[0]);
    direct.args(&program[1..]).env_clear().envs(variables).current_dir("/tmp");
    // std sorts variables, and the agent keeps the order that it finds: both get the same.
    let mut through = container.agent(&["exec", "--"]);
    through.args(program).envs(variables).current_dir("/tmp");

    assert_eq!(text(&run(&mut through).stdout), text(&run(&mut direct).stdout));
}

#[rstest]
#[case::ignored("trap '' HUP TERM")]
#[case::default("trap - HUP TERM")]
fn a_signal_that_was_ignored_stays_ignored_and_others_do_not(#[case] trap: &str) {
    let store = Store::start(|_, _| Reply::env(&[]));
    let container = Container::of(&store);
    let agent = container.agent(&["exec", "--", "grep", "SigIgn", "/proc/self/status"]);
    let below_shell = |program: &[&OsStr]| {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!(r#"{trap}; exec "$@""#)).arg("sh").args(program);
        shell.env_clear().envs(agent.get_envs().map(|(name, value)| (name, value.unwrap())));
        text(&run(&mut shell).stdout)
    };

    let args: Vec<_> = agent.get_args().collect();
    let through = below_shell(&[&[agent.get_program()], &args[..]].concat());

    assert_eq!(through, below_shell(&args[2..]));
    // SIGHUP is 1 and SIGTERM is 15; the others are as the test found them.
    let bits = u64::from_str_radix(through.trim_start_matches("SigIgn:").trim(), 16).unwrap();
    assert_eq!(bits & 0x4001 == 0x4001, trap.contains("''"), "{through}");
}

#[test]
fn another_user_owns_its_proc_again_and_needs_no_rights() {
    if !rustix::process::geteuid().is_root() {
        // The case `owner_of_its_proc` above has shown it.
        return;
    }
    let store = Store::start(|_, _| Reply::env(&[("A", b"1")]));
    let container = Container::of(&store);
    let folder = container.folder.path();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    run(&mut container.agent(&["copy", folder.to_str().unwrap()]));

    let mut agent = Command::new(container.path("agent"));
    for (name, value) in container.agent(&[]).get_envs() {
        agent.env(name, value.unwrap());
    }
    let output = run(agent.uid(65532).gid(65532).args([
        "exec",
        "--",
        "stat",
        "-c",
        "%u",
        "/proc/self/environ",
    ]));

    assert_eq!(text(&output.stdout), "65532\n", "{}", text(&output.stderr));
}

#[test]
fn bytes_that_are_no_text_pass_unchanged() {
    let store = Store::start(|_, _| Reply::env(&[("SECRET", b"\xff\x00"[..1].as_ref())]));
    let odd = OsString::from_vec(vec![0xc3, 0x28, b'=', b'\n', 0x80]);
    let container = Container::of(&store);
    let mut agent = container.agent(&["exec", "--", "sh", "-c"]);
    agent.arg(r#"printf '%s|' "$1" "$ODD" "$SECRET""#).arg("sh").arg(&odd).env("ODD", &odd);

    let output = run(&mut agent);

    assert_eq!(output.stdout, b"\xc3\x28=\n\x80|\xc3\x28=\n\x80|\xff|");
}

#[test]
fn a_value_is_exact_to_the_last_newline() {
    let store = Store::start(|_, _| Reply::env(&[("A", b" $(B) $$ \\ 'x' \n\n"), ("EMPTY", b"")]));

    let output =
        run(&mut Container::of(&store).agent(&["exec", "--", "cat", "/proc/self/environ"]));

    assert_eq!(output.stdout, b"PATH=/usr/bin:/bin\0A= $(B) $$ \\ 'x' \n\n\0EMPTY=\0");
}

#[rstest]
#[case::fits(131_071 - "NAME=".len(), Some(0))]
#[case::too_long(131_072 - "NAME=".len(), Some(78))]
fn a_variable_may_have_as_many_bytes_as_linux_takes(
    #[case] bytes: usize,
    #[case] code: Option<i32>,
) {
    let store = Store::start(move |_, _| Reply::env(&[("NAME", &vec![b'v'; bytes])]));
    let container = Container::of(&store);

    let output = run(&mut container.agent(&["exec", "--", "true"]));

    assert_eq!(output.status.code(), code, "{}", text(&output.stderr));
    if code == Some(78) {
        assert_eq!(
            container.termination_message(),
            "Failed to launch container: the environment variable `NAME` would have 131072 bytes \
             with its name, 131071 are possible; use a file"
        );
    }
}

#[test]
fn an_environment_that_is_too_large_altogether_is_refused_with_advice() {
    let names: Vec<_> = (0..30).map(|number| format!("NAME_{number}")).collect();
    let store = Store::start(move |_, _| {
        let value = vec![b'v'; 100_000];
        let secrets: Vec<_> = names.iter().map(|name| (name.as_str(), value.as_slice())).collect();
        Reply::env(&secrets)
    });

    let output = run(&mut Container::of(&store).agent(&["exec", "--", "true"]));

    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("are too large; use files"), "{}", text(&output.stderr));
}

#[test]
fn a_value_with_a_nul_byte_is_refused_and_not_shown() {
    let value = format!("{CANARY}\0");
    let store = Store::start(move |_, _| Reply::env(&[("A", value.as_bytes())]));

    let output = run(&mut Container::of(&store).agent(&["exec", "--", "true"]));

    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("`A` would hold a NUL byte"), "{}", text(&output.stderr));
}

#[test]
fn probes_get_the_same_secrets_and_make_no_call() {
    let store = Store::start(|_, _| Reply::env(&[("A", b"secret"), ("B", b"\xff\n")]));
    let container = Container::of(&store);
    let cache = container.path("environment");
    run(container.agent(&["exec", "--", "true"]).env("WATCHWORD_ENV_CACHE", &cache));

    let probe = run(container
        .agent(&["exec", "--cached", "--", "cat", "/proc/self/environ"])
        .env("WATCHWORD_ENV_CACHE", &cache)
        .env("WATCHWORD_STORE", "https://127.0.0.1:1")
        .env("A", "plain"));

    assert_eq!(probe.stdout, b"PATH=/usr/bin:/bin\0A=secret\0B=\xff\n\0");
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o7777, 0o400);
    assert_eq!(store.seen().len(), 1, "only the container's own agent has asked");
}

#[test]
fn a_hook_waits_for_the_containers_own_agent() {
    let store = Store::start(|_, _| Reply::env(&[("A", b"1")]));
    let container = Container::of(&store);
    let cache = container.path("environment");
    let mut hook = container.agent(&["exec", "--cached", "--", "printenv", "A"]);
    let hook = hook.env("WATCHWORD_ENV_CACHE", &cache).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(100));

    run(container.agent(&["exec", "--", "true"]).env("WATCHWORD_ENV_CACHE", &cache));

    assert_eq!(text(&hook.wait_with_output().unwrap().stdout), "1\n");
}

#[test]
fn a_hook_waits_also_when_the_container_starts_again() {
    let (release, released) = mpsc::channel::<()>();
    let store = Store::start(move |number, _| {
        if number == 0 {
            return Reply::env(&[("A", b"first")]);
        }
        released.recv().unwrap();
        Reply::env(&[("A", b"second")])
    });
    let container = Container::of(&store);
    let cache = container.path("environment");
    run(container.agent(&["exec", "--", "true"]).env("WATCHWORD_ENV_CACHE", &cache));
    assert!(cache.exists());

    let mut again = container.agent(&["exec", "--", "true"]);
    let mut again = again.env("WATCHWORD_ENV_CACHE", &cache).spawn().unwrap();
    let begun = Instant::now();
    while cache.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "what was left is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut hook = container.agent(&["exec", "--cached", "--", "printenv", "A"]);
    let hook = hook.env("WATCHWORD_ENV_CACHE", &cache).stdout(Stdio::piped()).spawn().unwrap();
    release.send(()).unwrap();

    assert_eq!(text(&hook.wait_with_output().unwrap().stdout), "second\n");
    assert!(again.wait().unwrap().success());
}

#[test]
fn a_signal_ends_a_hook_that_waits() {
    let container = Container::at("https://127.0.0.1:1", "");
    let mut hook = container.agent(&["exec", "--cached", "--", "true"]);
    hook.env("WATCHWORD_ENV_CACHE", container.path("environment"));
    let mut waiting = Waiting::spawn(&mut hook);
    waiting.catches(Signal::TERM);

    assert_eq!(waiting.end_with(Signal::TERM).code(), Some(143));
}

#[test]
fn the_failure_of_a_probe_is_not_the_containers_last_word() {
    let container = Container::at("https://127.0.0.1:1", "");
    fs::write(container.path("environment"), "A=1\0").unwrap();
    fs::write(container.path("termination-log"), "the application's").unwrap();

    let output = run(container
        .agent(&["exec", "--cached", "--", "nowhere-to-be-found"])
        .env("WATCHWORD_ENV_CACHE", container.path("environment")));

    assert_eq!(output.status.code(), Some(127));
    assert_eq!(container.termination_message(), "the application's");
}

#[rstest]
#[case("WATCHWORD_STORE", None, "WATCHWORD_STORE is not set")]
#[case("WATCHWORD_STORE", Some("http://store"), "`http://store` is no `https://` address")]
#[case("WATCHWORD_CA", None, "WATCHWORD_CA is not set")]
#[case("WATCHWORD_CA", Some("x"), "WATCHWORD_CA: no certificate in it")]
#[case("WATCHWORD_CONTAINER", None, "WATCHWORD_CONTAINER is not set")]
#[case("WATCHWORD_TOKEN", Some(""), "WATCHWORD_TOKEN is not set")]
fn settings_that_are_wrong_end_the_container(
    #[case] name: &str,
    #[case] value: Option<&str>,
    #[case] message: &str,
) {
    let container = Container::at("https://127.0.0.1:1", CA_OF_NOBODY.as_str());
    let mut agent = container.agent(&["exec", "--", "true"]);
    match value {
        Some(value) => agent.env(name, value),
        None => agent.env_remove(name),
    };

    let output = run(&mut agent);

    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains(message), "{}", text(&output.stderr));
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let container = Container::at("https://127.0.0.1:1", "");

    let output = run(&mut container.agent(&["exec", "true"]));

    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("error: `exec` needs `--` before the program\n"));
}

static CA_OF_NOBODY: std::sync::LazyLock<String> =
    std::sync::LazyLock::new(|| Store::start(|_, _| Reply::env(&[])).ca);

/// An agent that has not become anything yet.
struct Waiting {
    child: Child,
    lines: mpsc::Receiver<String>,
    said: Vec<String>,
}

impl Waiting {
    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines, said: Vec::new() }
    }

    fn first_line(&mut self) -> &str {
        self.said.push(self.lines.recv_timeout(Duration::from_secs(20)).unwrap());
        &self.said[0]
    }

    /// Waits until it has a handler for a signal.
    fn catches(&self, signal: Signal) {
        let status = format!("/proc/{}/status", self.child.id());
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let status = fs::read_to_string(&status).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
            if caught & (1 << (signal.as_raw() - 1)) != 0 {
                return;
            }
            assert!(Instant::now() < until, "it does not catch {signal:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn end_with(&mut self, signal: Signal) -> std::process::ExitStatus {
        let id = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(id, signal).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("{signal:?} does not end it");
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Runs it to its end, and checks what holds whatever the test is about: no message shows a value.
fn run(command: &mut Command) -> Output {
    let pipes = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = pipes.spawn().unwrap();
    // An agent that waits waits for ever, and a test that fails should not.
    let id = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    let (done, watched) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if watched.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
            _ = kill_process(id, Signal::KILL);
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    watchdog.join().unwrap();
    assert!(!text(&output.stderr).contains(CANARY), "{}", text(&output.stderr));
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
