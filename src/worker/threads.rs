//! [`Crew`]: the threads of a worker. They are made before it accepts connections, and are gone before Python ends.

use super::Plan;
use super::app_thread::AppThread;
use super::channel::{Outlet, ResponseRoom};
use super::condemn::Patience;
use super::engine::{Engine, Rules};
use super::hooks::LastCalls;
use super::io::Io;
use super::leaving::Departure;
use super::passing::Passing;
use super::proxied::{self, ProxyRules};
use super::spent;
use super::spool::SpoolSettings;
use super::stacks::Stacks;
use super::standby::Standby;
use super::timeouts::Timeouts;
use super::title::WorkerTitle;
use super::turn::Turn;
use crate::http::Limits;
use crate::log::access::AccessLog;
use crate::net::LocalAddress;
use crate::settings::Settings;
use crate::statsd::Statsd;
use crate::sys::poll::Poll;
use crate::sys::process::ThreadStatus;
use crate::sys::random;
use crate::sys::signal::{self, SelfPipe};
use crate::wsgi::environ::ServerNames;
use crate::wsgi::spew;
use crate::wsgi::{Handler, HeaderRules, Hooks, RequestId, Shared};
use pyo3::prelude::*;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::sync::{Arc, OnceLock};
use std::thread::{self, Builder, Scope, ScopedJoinHandle};

/// What the main thread of most programs has, and Python's own threads with it: deep recursion ends in a RecursionError
/// before it ends the stack.
const APP_STACK_BYTES: usize = 8 * 1024 * 1024;

/// The standby needs little, but the thread-local variables of all loaded libraries have their place there too.
const STANDBY_STACK_BYTES: usize = 512 * 1024;

/// All that the threads of a worker need, before they run.
pub(super) struct Crew<'w> {
    turn: Turn<Engine<'w>>,
    poll: Arc<Poll>,
    /// For each application thread, the first of which is the main thread.
    handlers: Vec<(Handler, Arc<Shared<Outlet>>)>,
    statuses: Vec<OnceLock<ThreadStatus>>,
    /// `--spew`.
    is_traced: bool,
}

impl<'w> Crew<'w> {
    /// # Errors
    /// Out of descriptors or memory.
    pub(super) fn new(
        py: Python<'_>,
        plan: Plan<'w>,
        index: u32,
        signals: &'w SelfPipe,
        application: &Py<PyAny>,
        records: (Option<AccessLog>, Option<Statsd>),
    ) -> Result<Self, String> {
        let threads = plan.settings.threads as usize;
        let exchanges = exchanges(plan.settings);
        name_requests(&exchanges, plan.settings)?;
        let logged_keys = records.0.as_ref().map_or_else(Vec::new, |log| log.environ_names().to_vec());
        let names: Vec<ServerNames> =
            plan.listeners.places.iter().map(|place| server_names(place, plan.settings)).collect();
        let headers = header_rules(plan.settings);
        let handlers = exchanges.iter().map(|exchange| {
            let application = application.clone_ref(py);
            let (headers, logged_keys) = (headers.clone(), logged_keys.clone());
            let handler = Handler::new(py, application, &names, headers, logged_keys, Arc::clone(exchange))?;
            Ok::<_, PyErr>((handler, Arc::clone(exchange)))
        });
        let handlers = handlers.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let patience = Patience { timeout: plan.settings.timeout, stacks: Stacks::new(py) };
        let made = Poll::new().map(Arc::new).and_then(|poll| {
            let engine = engine(plan, index, signals, records, exchanges, patience, &poll)?;
            Ok((Turn::new(engine, threads)?, poll))
        });
        let (turn, poll) = made.map_err(|error| format!("cannot poll: {error}"))?;
        Ok(Self {
            turn,
            poll,
            handlers,
            statuses: (0..threads).map(|_| OnceLock::new()).collect(),
            is_traced: plan.settings.spew,
        })
    }

    /// What is called besides the application.
    pub(super) fn set_hooks(&mut self, hooks: &Arc<Hooks>) {
        for (handler, _) in &mut self.handlers {
            handler.set_hooks(hooks);
        }
        self.turn.lock().work.last_calls = LastCalls::new(hooks);
    }

    /// Where the worker shows what it does.
    pub(super) fn show(&self, title: WorkerTitle) {
        self.turn.lock().work.title = title;
    }

    /// Serves until the worker is asked to stop and all requests in flight are answered. `ready` is called when
    /// connections are about to be accepted.
    ///
    /// # Errors
    /// Out of threads, or of what it takes to accept.
    pub(super) fn run(mut self, py: Python<'_>, ready: impl FnOnce()) -> Result<(), String> {
        let handlers = std::mem::take(&mut self.handlers);
        let Self { turn, poll, statuses, .. } = &self;
        thread::scope(|scope| {
            let mut app_threads = handlers
                .into_iter()
                .enumerate()
                .map(|(seat, (handler, exchange))| AppThread::new(seat, turn, Arc::clone(poll), handler, exchange));
            let Some(mut main) = app_threads.next() else { return Ok(()) };
            let mut running = Running { turn, threads: Vec::new(), is_traced: self.is_traced };
            let started = running.start(scope, app_threads, statuses, Standby::new(turn, Arc::clone(poll), statuses));
            let ran = started.and_then(|()| start_serving(turn, ready)).map(|()| main.run(py));
            running.end(py);
            turn.lock().work.finish_records();
            ran
        })
    }
}

fn exchanges(settings: &Settings) -> Vec<Arc<Shared<Outlet>>> {
    let room = Arc::new(ResponseRoom {
        memory_max: settings.response_memory_max,
        file_max: settings.response_file_max,
        folder: settings.temporary_folder(),
    });
    (0..settings.threads).map(|_| Arc::new(Shared::new(Outlet::new(Arc::clone(&room))))).collect()
}

/// In the worker, after the fork: otherwise two of them would use the same names.
fn name_requests(exchanges: &[Arc<Shared<Outlet>>], settings: &Settings) -> Result<(), String> {
    let Some(header) = &settings.logging.request_id_header else { return Ok(()) };
    for exchange in exchanges {
        let mut seed = [0; 32];
        random::fill(&mut seed).map_err(|error| format!("--request-id-header {header}: {error}"))?;
        exchange.lock().request_id = Some(RequestId::new(header, seed));
    }
    Ok(())
}

fn engine<'w>(
    plan: Plan<'w>,
    index: u32,
    signals: &'w SelfPipe,
    records: (Option<AccessLog>, Option<Statsd>),
    exchanges: Vec<Arc<Shared<Outlet>>>,
    patience: Patience,
    poll: &Arc<Poll>,
) -> io::Result<Engine<'w>> {
    let settings = plan.settings;
    let mut io = Io::new(&plan.listeners.open, settings.worker_connections, Timeouts::new(settings), Arc::clone(poll));
    io.proxy_versions = proxied::versions(settings.proxies.proxy_protocol);
    let passing = plan.inboxes.map(|inboxes| Passing::new(inboxes, plan.scoreboard, index));
    if let Some(passing) = &passing {
        io.watch_inbox(passing.inbox())?;
    }
    let slot = plan.scoreboard.slot(index);
    let departure = Departure::new(plan.scoreboard, index, plan.generation, settings.backlog);
    let mut engine = Engine::new(io, slot, signals, rules(settings), exchanges, patience, departure)?;
    engine.passing = passing;
    engine.places = plan.listeners.places.len();
    (engine.access_log, engine.statsd) = records;
    if !settings.logging.slow_request_log.is_zero() {
        engine.slow_request = settings.logging.slow_request_log;
    }
    engine.statistics = engine.statistics.filter(|_| settings.is_watched());
    if let Some(statistics) = engine.statistics {
        statistics.set_threads(settings.threads.into());
    }
    engine.requests_max = spent::requests_max(settings);
    Ok(engine)
}

fn start_serving(turn: &Turn<Engine<'_>>, ready: impl FnOnce()) -> Result<(), String> {
    turn.lock().work.io.start_accepting().map_err(|error| format!("cannot poll the listeners: {error}"))?;
    ready();
    // What was sent to a worker that has died before this one was ready.
    let work = &mut turn.lock().work;
    work.adopts_orphans = true;
    work.begin_batch();
    work.end_batch();
    Ok(())
}

/// The threads that were started.
struct Running<'t, 'w, 's> {
    turn: &'t Turn<Engine<'w>>,
    threads: Vec<ScopedJoinHandle<'s, ()>>,
    /// Whether they are to tell each line that they run.
    is_traced: bool,
}

impl<'t, 'w, 's> Running<'t, 'w, 's>
where
    't: 's,
    'w: 's,
{
    /// Starts all but the calling thread, which is Python's main thread and the first that calls the application.
    fn start(
        &mut self,
        scope: &'s Scope<'s, '_>,
        app_threads: impl Iterator<Item = AppThread<'t, 'w>>,
        statuses: &'t [OnceLock<ThreadStatus>],
        mut standby: Standby<'t, 'w>,
    ) -> Result<(), String> {
        note_status(&statuses[0]);
        let is_traced = self.is_traced;
        self.spawn(scope, "minicorn-stand".to_owned(), STANDBY_STACK_BYTES, move || standby.run())?;
        for (mut app_thread, (index, status)) in app_threads.zip(statuses.iter().enumerate().skip(1)) {
            let name = format!("minicorn-app-{}", index + 1);
            self.spawn(scope, name.clone(), APP_STACK_BYTES, move || {
                note_status(status);
                Python::attach(|py| {
                    name_thread(py, &name);
                    if is_traced {
                        spew::begin(py);
                    }
                    app_thread.run(py);
                });
            })?;
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        scope: &'s Scope<'s, '_>,
        name: String,
        stack_bytes: usize,
        run: impl FnOnce() + Send + 's,
    ) -> Result<(), String> {
        // Signals are for Python's main thread: a new thread inherits the mask, which is full meanwhile.
        let spawned = signal::blocked(|| Builder::new().name(name).stack_size(stack_bytes).spawn_scoped(scope, run));
        let thread = spawned.and_then(|spawned| spawned).map_err(|error| format!("cannot start a thread: {error}"))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Ends all of them, and waits for it. They may need Python to end.
    fn end(self, py: Python<'_>) {
        Engine::end(self.turn, &mut self.turn.lock());
        let last_calls = std::mem::take(&mut self.turn.lock().work.last_calls);
        py.detach(|| {
            self.threads.into_iter().for_each(|thread| _ = thread.join());
            last_calls.wait();
        });
    }
}

fn note_status(status: &OnceLock<ThreadStatus>) {
    match ThreadStatus::of_current() {
        Ok(found) => _ = status.set(found),
        // The thread counts as one that waits then.
        Err(error) => log::warn!("the threads of this worker cannot be looked at: {error}"),
    }
}

/// What Python's logging shows of a thread that Python has not started is a dummy's name.
fn name_thread(py: Python<'_>, name: &str) {
    let named = py
        .import("threading")
        .and_then(|threading| threading.call_method0("current_thread"))
        .and_then(|thread| thread.setattr("name", name));
    if let Err(error) = named {
        log::debug!("a thread has no name: {error}");
    }
}

fn rules(settings: &Settings) -> Rules {
    Rules {
        limits: Limits {
            line_bytes_max: settings.limit_request_line,
            field_bytes_max: settings.limit_request_field_size,
            fields_max: settings.limit_request_fields,
            body_bytes_max: settings.limit_request_body,
            leniency: proxied::leniency(settings.leniency),
        },
        proxies: ProxyRules::new(&settings.proxies),
        spool: SpoolSettings { memory_max: settings.body_memory_max, folder: settings.temporary_folder() },
        is_keep_alive: !settings.keep_alive.is_zero(),
        is_buffering: settings.request_buffering,
        body_timeout: (!settings.body_timeout.is_zero()).then_some(settings.body_timeout),
    }
}

/// The application may have set the variable when it was loaded, as with gunicorn.
fn header_rules(settings: &Settings) -> HeaderRules {
    let mount = std::env::var_os("SCRIPT_NAME").unwrap_or_default();
    HeaderRules::new(&settings.proxies, mount.into_vec())
}

fn server_names(place: &LocalAddress, settings: &Settings) -> ServerNames {
    let (name, port) = match place {
        LocalAddress::Tcp(address) => (Some(address.ip().to_string()), address.port().to_string()),
        LocalAddress::Unix(_) | LocalAddress::Abstract(_) => (None, "80".to_owned()),
    };
    ServerNames { name, port, is_multithread: settings.threads > 1, is_multiprocess: settings.workers > 1 }
}
