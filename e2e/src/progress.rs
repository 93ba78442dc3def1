//! What a person sees while something takes long.
//!
//! On a terminal: a spinner with the time that has passed. Elsewhere: one line when a step starts,
//! one when it ends and one a minute in between, so that a log shows that something is alive.
//! Everything goes to standard error.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{env, thread};

use indicatif::{ProgressBar, ProgressStyle};

/// Begins steps, in the way that suits where standard error leads.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    spinner: bool,
}

impl Progress {
    /// Spinners if standard error is a terminal, lines otherwise.
    pub fn new() -> Self {
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { spinner: io::stderr().is_terminal() && !dumb }
    }

    /// Begins a step: `what` is a short phrase such as "building etcd".
    pub fn step(&self, what: impl Into<String>) -> Step {
        let what = what.into();
        let display = if self.spinner {
            let bar = ProgressBar::new_spinner().with_message(what.clone());
            // The template is a constant; were it wrong, the default style would do.
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            Display::Spinner(bar)
        } else {
            eprintln!("… {what}");
            Display::Lines(Heartbeat::start(what.clone()))
        };
        Step { what, started: Instant::now(), display, ended: false }
    }

    /// Says something that needs no waiting for.
    pub fn say(&self, text: &str) {
        eprintln!("{text}");
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// One step under way. Dropped without [`Step::done`], it counts as failed.
#[derive(Debug)]
pub struct Step {
    what: String,
    started: Instant,
    display: Display,
    ended: bool,
}

impl Step {
    /// Shows what the step is at, such as "312 packages".
    pub fn note(&self, note: &str) {
        match &self.display {
            Display::Lines(heartbeat) => heartbeat.note(note),
            Display::Spinner(bar) => bar.set_message(format!("{}: {note}", self.what)),
        }
    }

    /// Ends the step well.
    pub fn done(mut self) {
        self.end("✓");
    }

    fn end(&mut self, mark: &str) {
        self.ended = true;
        if let Display::Spinner(bar) = &self.display {
            bar.finish_and_clear();
        }
        eprintln!("{mark} {} ({})", self.what, seconds(self.started.elapsed()));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.ended {
            self.end("✗");
        }
    }
}

#[derive(Debug)]
enum Display {
    Lines(Heartbeat),
    Spinner(ProgressBar),
}

/// A thread that prints a line a minute until it is dropped.
#[derive(Debug)]
struct Heartbeat {
    note: Arc<Mutex<String>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    fn start(what: String) -> Self {
        let (stop, stopped) = mpsc::channel();
        let note = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&note);
        let thread = thread::spawn(move || {
            let started = Instant::now();
            while stopped.recv_timeout(MINUTE) == Err(RecvTimeoutError::Timeout) {
                let note = shown.lock().unwrap_or_else(PoisonError::into_inner);
                let colon = if note.is_empty() { "" } else { ": " };
                eprintln!("  {what}{colon}{note} ({} so far)", seconds(started.elapsed()));
            }
        });
        Self { note, stop: Some(stop), thread: Some(thread) }
    }

    fn note(&self, note: &str) {
        note.clone_into(&mut self.note.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic there would be a lost line, nothing more.
            thread.join().ok();
        }
    }
}

fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 10.0 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
}

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_have_a_decimal_and_long_ones_do_not() {
        assert_eq!(seconds(Duration::from_millis(4_260)), "4.3 s");
        assert_eq!(seconds(Duration::from_millis(61_400)), "61 s");
    }

    #[test]
    fn a_heartbeat_ends_at_once_when_its_step_does() {
        let started = Instant::now();

        drop(Heartbeat::start("waiting".to_owned()));

        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
