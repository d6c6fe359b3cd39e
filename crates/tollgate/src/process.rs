//! The running server: its rooms put together, its background work, and its orderly end.

pub mod bookkeeping;
pub mod selling;
pub mod telling;

use crate::config::{Config, Transport};
use crate::deployment::{cores, open_store, schema_failure, secrets_of, smtp, store_failure, vault_failure};
use crate::doors::{Apart, Doors};
use crate::problem::Problem;
use crate::settings::{owner_exists, settings};
use crate::sweeper::Keep;
use crate::terminal::{Failure, Outcome, Terminal};
use crate::{logging, sweeper};
use bookkeeping::LastWalk;
use credits::Ledger;
use gate::guest_cookie::GuestKeys;
use hooks::Postman;
use identity::HashPool;
use kernel::signed::Signer;
use kernel::{Clock as _, SystemClock, Vault, random};
use mail::{Mailer, Outbox, Templates};
use oidc::Providers;
use selling::InboxGauge;
use server::App;
use server::dev::{Dev, Known};
use server::edge::{self, Shutdown};
use server::tokens::Tokens;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use store::{Counters, Store};
use telling::DeliveryGauge;
use telling::Teller;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Dev,
    Serve,
}

/// Connections that wait to be taken in. When more arrive at once the kernel drops them, and their callers try again
/// only after a second. It takes the smaller of this and its own `net.core.somaxconn`, which is 4,096.
const BACKLOG: i32 = 4_096;

/// From the signal to the end; what is not done then is cut off.
const DRAIN: Duration = Duration::from_secs(10);

/// A server whose database is open and of the right version, and which does not listen yet.
pub struct Prepared {
    pub config: Config,
    pub mode: Mode,
    pub store: Store,
    pub vault: Vault,
    /// The database was made just now.
    pub was_new: bool,
    /// What the pages of `dev` show.
    pub known: Known,
    runtime: Runtime,
}

impl Prepared {
    pub fn open(config: Config, mode: Mode, terminal: &Terminal) -> Result<Prepared, Failure> {
        logging::start(&config, terminal.no_color);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(cores()).enable_all().build();
        let runtime = runtime.map_err(|error| {
            Failure::new(
                format!("The runtime cannot start: {error}."),
                "Allow this user more threads and open files.",
            )
        })?;
        let secrets = secrets_of(&config)?;
        let store = open_store(&config)?;
        let was_new = store.schema_version().map_err(|error| schema_failure(&error))? == 0;
        store.migrate().map_err(|error| schema_failure(&error))?;
        let opened =
            store.write(move |tx| identity::deployment::open_vault(tx, &secrets, &mut random::secure()));
        let vault = runtime.block_on(opened).map_err(|error| vault_failure(&error))?;
        Ok(Prepared { config, mode, store, vault, was_new, known: Known::default(), runtime })
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

/// Takes the port, before anything else is touched. `instead` shows how to choose another.
pub fn bind(address: SocketAddr, instead: &str) -> Result<TcpListener, Failure> {
    listen(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::new(
            format!("Port {} on {} is taken, perhaps by another Tollgate.", address.port(), address.ip()),
            format!("Stop the other one, or choose another port: {instead}"),
        ),
        std::io::ErrorKind::PermissionDenied => Failure::new(
            format!("This user may not listen on {address}."),
            format!("Choose a port above 1023: {instead}"),
        ),
        _ => Failure::new(
            format!("{address} cannot be listened on: {error}."),
            format!("Choose an address of this machine: {instead}"),
        ),
    })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    // Asked for a second time, because the standard library asks for 128.
    socket2::SockRef::from(&listener).listen(BACKLOG)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until SIGTERM or SIGINT. `announce` is called once connections are taken in.
pub fn run(
    prepared: Prepared,
    listener: TcpListener,
    terminal: &Terminal,
    announce: impl FnOnce(&Terminal),
) -> Outcome {
    let own = match prepared.config.operations_listen {
        Some(address) => Some(bind(address, "TOLLGATE_OPERATIONS__LISTEN=127.0.0.1:9655")?),
        None => None,
    };
    let adapters = match prepared.config.authjs.listen {
        Some(address) => Some(bind(address, "TOLLGATE_AUTHJS__LISTEN=127.0.0.1:8755")?),
        None => None,
    };
    let rooms = Rooms::open(&prepared)?;
    let cut = prepared.block_on(async {
        let shutdown = Shutdown::new();
        listen_for_signals(shutdown.clone()).map_err(|error| failed("The signals", &error))?;
        let keep = Keep { retention: prepared.config.retention.clone(), guests: prepared.config.guest.ttl };
        let sweeper = tokio::spawn(sweeper::run(prepared.store.clone(), keep));
        let walk = Arc::new(LastWalk::default());
        let (store, vault, ledger) =
            (prepared.store.clone(), prepared.vault.clone(), rooms.app.ledger.clone());
        let bookkeeping = tokio::spawn(bookkeeping::run(store, vault, ledger, walk.clone()));
        let mailer = tokio::spawn(rooms.mailer.clone().run(stopping(shutdown.clone())));
        let inbox = Arc::new(InboxGauge::default());
        let counting = tokio::spawn(selling::watch(prepared.store.clone(), inbox.clone()));
        let deliveries = Arc::new(DeliveryGauge::default());
        let delivering = tokio::spawn(telling::watch(prepared.store.clone(), deliveries.clone()));
        let selling = tokio::spawn(selling::run(rooms.app.billing.clone(), stopping(shutdown.clone())));
        let postman = tokio::spawn(rooms.postman.clone().run(stopping(shutdown.clone())));
        let teller = tokio::spawn(rooms.teller.clone().run());
        let mails_leave = !matches!(prepared.config.mail.transport, Transport::Unset);
        let known = Known { operations_apart: own.is_some(), mails_leave, ..prepared.known.clone() };
        let dev = Dev::of(&rooms.app, rooms.templates.clone(), known);
        let apart = Apart { operations: own.is_some(), adapter: adapters.is_some() };
        let doors = Doors::open(&rooms.app, apart, dev, &shutdown, walk, (inbox, deliveries));
        let served = tokio::spawn(edge::serve(
            asynchronous(listener)?,
            doors.public,
            doors.edge.clone(),
            shutdown.clone(),
        ));
        let operations = match own {
            Some(own) => asynchronous(own)?,
            None => Vec::new(),
        };
        let operations =
            tokio::spawn(edge::serve(operations, doors.operations, doors.edge.clone(), shutdown.clone()));
        let adapters = match adapters {
            Some(own) => asynchronous(own)?,
            None => Vec::new(),
        };
        let adapters = tokio::spawn(edge::serve(adapters, doors.adapter, doors.edge, shutdown.clone()));
        announce(terminal);
        let drained = served.await.map_err(|error| failed("The server", &error))?;
        let _ = operations.await;
        let _ = adapters.await;
        sweeper.abort();
        bookkeeping.abort();
        teller.abort();
        counting.abort();
        delivering.abort();
        // They were told to stop together with the server.
        let _ = tokio::time::timeout(DRAIN, async { tokio::join!(mailer, selling, postman) }).await;
        Ok(drained.cut)
    })?;
    tracing::info!(cut, "stopped");
    // Work that holds a thread for longer is lost with the process, as in a crash.
    prepared.runtime.shutdown_timeout(Duration::from_millis(500));
    Ok(())
}

fn asynchronous(listener: TcpListener) -> Result<Vec<tokio::net::TcpListener>, Failure> {
    let listener = tokio::net::TcpListener::from_std(listener);
    Ok(vec![listener.map_err(|error| failed("The listener", &error))?])
}

async fn stopping(shutdown: Shutdown) {
    shutdown.begun().await;
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("{what} failed: {error}."), "Read the log above and check with `tollgate doctor`.")
}

/// The first signal asks for an orderly end, the second one ends at once.
fn listen_for_signals(shutdown: Shutdown) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if shutdown.has_begun() {
                std::process::exit(130);
            }
            tracing::info!("stopping: requests under way are finished, new ones are not taken");
            shutdown.begin();
        }
    });
    Ok(())
}

/// The rooms, put together.
struct Rooms {
    app: Arc<App>,
    mailer: Mailer,
    postman: Postman,
    teller: Teller,
    templates: Arc<Templates>,
}

impl Rooms {
    fn open(prepared: &Prepared) -> Result<Rooms, Failure> {
        let config = &prepared.config;
        let settings = settings(config, prepared.mode)?;
        let redis = config.redis_url.as_ref().map_or("", |url| url.expose().as_str());
        let counters = Counters::open(&prepared.store, redis).map_err(|error| store_failure(&error))?;
        let hasher = HashPool::start(cores()).map_err(|error| failed("The threads for passwords", &error))?;
        let outbox = Outbox::default();
        let clock = Arc::new(SystemClock);
        let templates = Arc::new(templates(config)?);
        let transport = transport(config, prepared.mode)?;
        let (store, vault) = (prepared.store.clone(), prepared.vault.clone());
        let mailer = Mailer::new(
            store.clone(),
            vault.clone(),
            templates.clone(),
            transport,
            clock.clone(),
            outbox.clone(),
        );
        let signer = Signer::new(&settings.secrets);
        let guest_keys = GuestKeys::new(&settings.guest.secrets);
        let ledger = prepared.block_on(ledger(prepared, config.credits.clone()))?;
        let postman = telling::postman(config, prepared.mode, &store, &vault)?;
        let teller = Teller::new(config, &store, &vault, &outbox);
        let billing = selling::desk(config, &store, &vault)?;
        let providers = providers(config)?;
        let tokens = Tokens::new(settings.jwt.clone(), &settings.base_url);
        let app = App {
            settings,
            store,
            counters,
            vault,
            signer,
            guest_keys,
            hasher,
            outbox,
            ledger,
            billing,
            tokens,
            providers,
            clock,
        };
        Ok(Rooms { app: Arc::new(app), mailer, postman, teller, templates })
    }
}

/// Ready for use; nothing is asked of them before somebody signs in.
pub fn providers(config: &Config) -> Result<Providers, Failure> {
    let without_tls = || Failure::new("This build has no cryptography for TLS.", "Build Tollgate anew.");
    Providers::new(config.providers.iter().cloned()).ok_or_else(without_tls)
}

async fn ledger(prepared: &Prepared, settings: credits::Settings) -> Result<Ledger, Failure> {
    let settings = Arc::new(settings);
    let (book, now) = (settings.clone(), SystemClock.now());
    let version = prepared.store.write(move |tx| credits::prices::version(tx, &book, now)).await;
    let version = version.map_err(|error| store_failure(&error))?;
    let (store, vault) = (prepared.store.clone(), prepared.vault.clone());
    Ok(Ledger::start(store, vault, settings, version, owner_exists(), Arc::new(SystemClock)))
}

fn templates(config: &Config) -> Result<Templates, Failure> {
    Templates::load(&config.app_name, config.mail.templates.as_deref()).map_err(|problems| {
        let problem = |problem: mail::TemplateProblem| {
            Problem::new("mail.templates", format!("{problem}."), "Correct the file or remove it.")
        };
        let problems = problems.into_iter().map(problem).collect();
        Failure::with_problems("The mail templates have mistakes.", "Correct them and start again.", problems)
    })
}

fn transport(config: &Config, mode: Mode) -> Result<mail::Transport, Failure> {
    match (&config.mail.transport, mode) {
        (Transport::Unset, Mode::Dev) => Ok(mail::Transport::Capture),
        (Transport::Unset | Transport::Nothing, _) => Ok(mail::Transport::Nothing),
        (Transport::Smtp(url), _) => smtp(config, url).map(mail::Transport::Smtp),
    }
}
