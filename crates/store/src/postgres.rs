//! PostgreSQL: worker threads that own a connection each and run closures on it unchanged.
//!
//! Nothing here waits for ever: a statement has [`ANSWER_TIME`], a caller what [`crate::job::wait`] allows, and a lost connection is
//! replaced by the next job. While the database cannot be reached, jobs are refused without a new attempt each.

use crate::error::Error;
use crate::job::{Job, Verdict};
use crate::sqlite::{spawn, submit};
use crate::tx::{On, Param, Tx};
use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use kernel::Stopwatch;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Statement, error::SqlState};

const QUEUE: usize = 1_024;
/// One connection in so many serves reads only, and all others take a waiting read before a waiting write: a storm of
/// sign-ins, each with its commits, must not hold up session checks.
const READERS_IN: usize = 4;
/// The server ends a statement first, so that a slow one is told from a silent server.
const STATEMENT_TIME: Duration = Duration::from_secs(2);
const ANSWER_TIME: Duration = Duration::from_millis(2_500);
const CONNECT_TIME: Duration = Duration::from_millis(1_500);
/// After a failed attempt to connect, the next one is made this much later.
const PAUSE: Duration = Duration::from_millis(250);
const ATTEMPTS: usize = 8;
const STATEMENT_CACHE: usize = 512;
/// Statements of changes find rows by key, so they are planned once: planning an insertion of many rows anew each time
/// takes longer than inserting them. A plan that is made while a table is nearly empty must not read it whole for ever.
/// Set outside of transactions, which would undo it with themselves.
const PLAN_BY_KEY: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;
    SET enable_hashjoin = off; SET enable_mergejoin = off";
const PLAN_FREELY: &str =
    "RESET plan_cache_mode; RESET enable_seqscan; RESET enable_hashjoin; RESET enable_mergejoin";
const BEGIN: &str = "BEGIN";
const BEGIN_SERIALIZABLE: &str = "BEGIN ISOLATION LEVEL SERIALIZABLE";

#[derive(Clone)]
pub(crate) struct Postgres {
    reads: Sender<Box<dyn Job>>,
    writes: Sender<Box<dyn Job>>,
    target: Arc<Target>,
}

/// Where to connect, and since when it fails.
pub(crate) struct Target {
    config: Config,
    tls: tokio_postgres_rustls::MakeRustlsConnect,
    failed: Mutex<Option<(Stopwatch, String)>>,
    retried: AtomicU64,
}

/// How a closure's transaction is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Statement by statement, each seeing what is committed when it begins.
    Read,
    Write,
    /// As if no other transaction ran meanwhile; run again when that cannot be had.
    Serializable,
}

/// A job and how to run it; the wrapper keeps [`Job`] free of engines.
struct InMode {
    job: Box<dyn Job>,
    mode: Mode,
}

impl Job for InMode {
    fn run(&mut self, tx: &mut Tx<'_>) -> Verdict {
        let On::Postgres(link) = &mut tx.engine else { return self.job.run(tx) };
        link.begin(self.mode);
        if self.mode == Mode::Read {
            return self.job.run(tx);
        }
        if link.is_gone() {
            return Verdict::Undo;
        }
        let verdict = self.job.run(tx);
        let On::Postgres(link) = &mut tx.engine else { return verdict };
        link.close_transaction(verdict);
        verdict
    }

    fn finish(self: Box<Self>, end: Result<(), Error>) {
        self.job.finish(end);
    }

    fn begin(&self) -> bool {
        self.job.begin()
    }
}

impl Postgres {
    pub(crate) fn open(url: &str, pool_size: usize) -> Result<Postgres, Error> {
        let target = Arc::new(Target::new(url)?);
        let (reads, waiting_reads) = bounded(QUEUE);
        let (writes, waiting_writes) = bounded(QUEUE);
        // Two at least: one of them is for reads alone.
        for number in 0..pool_size.max(2) {
            let lanes = Lanes {
                reads: waiting_reads.clone(),
                writes: if number % READERS_IN == 1 { never() } else { waiting_writes.clone() },
            };
            let target = target.clone();
            spawn(&format!("store-pg-{number}"), move || work(&target, &lanes))?;
        }
        Ok(Postgres { reads, writes, target })
    }

    pub(crate) fn submit(&self, job: Box<dyn Job>, mode: Mode) {
        let lane = if mode == Mode::Read { &self.reads } else { &self.writes };
        submit(lane, Box::new(InMode { job, mode }));
    }

    pub(crate) fn waiting(&self) -> usize {
        self.reads.len() + self.writes.len()
    }

    pub(crate) fn retried(&self) -> u64 {
        self.target.retried.load(Ordering::Relaxed)
    }

    /// A connection of its own without the short time limits: for migrations.
    pub(crate) fn connect_patiently(&self) -> Result<Link, Error> {
        Link::connect(&self.target, Duration::ZERO, Duration::ZERO).map(|mut link| {
            link.answer_time = Duration::from_secs(3_600);
            link
        })
    }
}

impl Target {
    fn new(url: &str) -> Result<Target, Error> {
        let bad = |what: String| Error::Misuse(format!("database_url: {what}"));
        let mut parsed = url::Url::parse(url)
            .map_err(|_| bad("not a URL such as postgres://user:password@host/name".into()))?;
        let mut certificate = None;
        let kept: Vec<(String, String)> = parsed
            .query_pairs()
            .filter_map(|(name, value)| match (&*name, &*value) {
                ("sslrootcert", path) => {
                    certificate = Some(path.to_string());
                    None
                }
                // Whenever TLS is asked for, the server's certificate and name are checked: `require` means it too.
                ("sslmode", "verify-full" | "verify-ca") => {
                    Some(("sslmode".to_string(), "require".to_string()))
                }
                _ => Some((name.into_owned(), value.into_owned())),
            })
            .collect();
        parsed.query_pairs_mut().clear().extend_pairs(kept);
        let text = parsed.as_str().trim_end_matches('?');
        let mut config: Config =
            text.parse().map_err(|error: tokio_postgres::Error| bad(error.to_string()))?;
        config.application_name("tollgate").connect_timeout(CONNECT_TIME).keepalives(true);
        config.keepalives_idle(Duration::from_secs(5)).tcp_user_timeout(Duration::from_secs(5));
        Ok(Target {
            config,
            tls: tls(certificate.as_deref()).map_err(bad)?,
            failed: Mutex::default(),
            retried: AtomicU64::new(0),
        })
    }

    fn recent_failure(&self) -> Option<Error> {
        let failed = self.failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        failed
            .as_ref()
            .filter(|(since, _)| since.elapsed() < PAUSE)
            .map(|(_, text)| Error::Unavailable(text.clone()))
    }

    fn note(&self, failure: Option<&Error>) {
        let mut failed = self.failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *failed = failure.map(|error| (Stopwatch::start(), error.to_string()));
    }
}

/// Certificates are checked against the file that `sslrootcert` names, else against the public authorities.
fn tls(certificate: Option<&str>) -> Result<tokio_postgres_rustls::MakeRustlsConnect, String> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let mut roots = rustls::RootCertStore::empty();
    match certificate {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let unusable =
                |error: &dyn std::fmt::Display| format!("sslrootcert={path} cannot be used: {error}");
            for found in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
                roots.add(found.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config =
        config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(tokio_postgres_rustls::MakeRustlsConnect::new(config))
}

/// One connection with its prepared statements, driven by this thread alone.
pub(crate) struct Link {
    runtime: tokio::runtime::Runtime,
    client: Client,
    statements: HashMap<String, Statement>,
    answer_time: Duration,
    /// Sent with whatever comes next, so that it takes no round trip of its own.
    pending: Vec<Pending>,
    /// Unknown when what sets it was not sent.
    plans_by_key: Option<bool>,
    /// The transaction has been committed or rolled back with its last statements.
    ended: bool,
    trouble: Option<Trouble>,
    /// A statement of this transaction was refused: PostgreSQL will turn its COMMIT into a ROLLBACK without an error.
    spoilt: bool,
}

/// Why an attempt has to be given up; kept beside the caller's own error, which may hide it.
#[derive(Debug, Clone)]
enum Trouble {
    /// Another transaction was in the way: run it again.
    Collision,
    /// The connection is gone before anything was committed: run it again on a new one.
    Lost(Error),
    /// Nobody answered in time, or the connection broke during the commit: nothing may be repeated.
    Unknown(Error),
    /// Our own mistake; the connection is as good as before.
    Spoilt(Error),
}

impl Link {
    /// A time of zero is no limit.
    fn connect(target: &Target, statement_time: Duration, lock_time: Duration) -> Result<Link, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::Unavailable(error.to_string()))?;
        let mut config = target.config.clone();
        let given = config.get_options().map(|options| format!("{options} ")).unwrap_or_default();
        config.options(format!(
            "{given}-c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout=10000",
            statement_time.as_millis(),
            lock_time.as_millis()
        ));
        let connecting =
            async { tokio::time::timeout(CONNECT_TIME, config.connect(target.tls.clone())).await };
        let (client, connection) = match runtime.block_on(connecting) {
            Err(_) => return Err(Error::Unavailable("PostgreSQL does not answer".into())),
            Ok(Err(error)) => {
                return Err(Error::Unavailable(format!("cannot connect to PostgreSQL: {}", chain(&error))));
            }
            Ok(Ok(pair)) => pair,
        };
        runtime.spawn(async move {
            // The client sees the end of the connection by itself.
            let _ = connection.await;
        });
        let statements = HashMap::new();
        Ok(Link {
            runtime,
            client,
            statements,
            answer_time: ANSWER_TIME,
            pending: Vec::new(),
            plans_by_key: Some(false),
            ended: false,
            trouble: None,
            spoilt: false,
        })
    }

    pub(crate) fn query(
        &mut self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Vec<tokio_postgres::Row>, Error> {
        self.ask(sql, params)
    }

    /// [`Self::query`] for texts that are made from others and for arrays. The number of texts has to be bounded by the
    /// program: each is kept prepared.
    pub(crate) fn ask<P: ToSql + Sync>(
        &mut self,
        sql: &str,
        params: &[P],
    ) -> Result<Vec<tokio_postgres::Row>, Error> {
        let statement = self.prepare(sql)?;
        let said = self.send(&[Message::Query(&statement, references(params))])?;
        Ok(said.into_iter().flat_map(Said::rows).collect())
    }

    pub(crate) fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64, Error> {
        let statement = self.prepare(sql)?;
        let said = self.send(&[Message::Execute(&statement, references(params))])?;
        Ok(said.first().map_or(0, Said::count))
    }

    /// Statements of which each has one array for its parameter; gives the rows of each.
    pub(crate) fn ask_all(
        &mut self,
        questions: &[(String, Vec<&str>)],
    ) -> Result<Vec<Vec<tokio_postgres::Row>>, Error> {
        let statements = questions.iter().map(|(sql, _)| self.prepare(sql)).collect::<Result<Vec<_>, _>>()?;
        let mut messages: Vec<Message<'_>> = Vec::with_capacity(questions.len());
        for (statement, (_, keys)) in statements.iter().zip(questions) {
            messages.push(Message::Query(statement, vec![keys]));
        }
        Ok(self.send(&messages)?.into_iter().map(Said::rows).collect())
    }

    /// A question whose answer nobody reads, sent with what comes next.
    pub(crate) fn ask_later(&mut self, sql: &str, list: List) -> Result<(), Error> {
        let statement = self.prepare(sql)?;
        self.pending.push(Pending::Ask(statement, list));
        Ok(())
    }

    /// Changes; with `last` the transaction is committed in the same round trip, and nothing can come after it. Were one
    /// of the changes refused, PostgreSQL would make a rollback of the commit.
    pub(crate) fn run_all(
        &mut self,
        statements: &[(Statement, Vec<Value<'_>>)],
        last: bool,
    ) -> Result<(), Error> {
        let mut messages: Vec<Message<'_>> = Vec::with_capacity(statements.len() + 1);
        for (statement, values) in statements {
            messages.push(Message::Execute(statement, values.iter().map(Value::as_sql).collect()));
        }
        if !last {
            return self.send(&messages).map(|_| ());
        }
        let begun = self.pending.iter().rposition(|pending| matches!(pending, Pending::Control(BEGIN)));
        match begun {
            // One statement that nothing went before is a transaction by itself.
            Some(at) if statements.len() == 1 && at + 1 == self.pending.len() => {
                self.pending.pop();
            }
            _ => messages.push(Message::Control("COMMIT")),
        }
        self.ended = true;
        let sent = self.send(&messages);
        if let (Err(_), Some(Trouble::Lost(error))) = (&sent, &self.trouble) {
            // Whether the commit took place, nobody knows: it must not be run again.
            self.trouble = Some(Trouble::Unknown(error.clone()));
        }
        sent.map(|_| ())
    }

    /// Begins what a job of this mode runs in, with the job's first statement.
    fn begin(&mut self, mode: Mode) {
        if !std::mem::take(&mut self.pending).is_empty() {
            self.plans_by_key = None;
        }
        (self.spoilt, self.ended) = (false, false);
        let by_key = mode != Mode::Read;
        if self.plans_by_key != Some(by_key) {
            self.plans_by_key = Some(by_key);
            self.pending.push(Pending::Control(if by_key { PLAN_BY_KEY } else { PLAN_FREELY }));
        }
        match mode {
            Mode::Read => {}
            Mode::Write => self.pending.push(Pending::Control(BEGIN)),
            Mode::Serializable => self.pending.push(Pending::Control(BEGIN_SERIALIZABLE)),
        }
    }

    /// Whether the server has closed the connection since it was used last, as it does when it ends. The first thing that is
    /// sent may be a commit already, of which nobody could say afterwards whether it took place.
    fn is_gone(&mut self) -> bool {
        self.runtime.block_on(async {
            // The first time the system is asked, the second time the connection hears of it.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        });
        let is_gone = self.client.is_closed();
        if is_gone {
            let error = Error::Unavailable("the connection to PostgreSQL was closed".into());
            self.trouble = Some(Trouble::Lost(error));
        }
        is_gone
    }

    /// Runs text without parameters: `COMMIT`, a migration.
    pub(crate) fn control(&mut self, sql: &str) -> Result<(), Error> {
        self.send(&[Message::Control(sql)]).map(|_| ())
    }

    /// Sends all messages at once, after those that are pending, and waits for all answers. The first failure counts: what
    /// follows it in a transaction fails because of it.
    fn send(&mut self, messages: &[Message<'_>]) -> Result<Vec<Said>, Error> {
        let pending = std::mem::take(&mut self.pending);
        let client = &self.client;
        let before: Vec<Message<'_>> = pending.iter().map(Pending::message).collect();
        let mut answers: Vec<_> =
            before.iter().chain(messages).map(|message| Some(Box::pin(message.send(client)))).collect();
        let mut results: Vec<Option<Result<Said, tokio_postgres::Error>>> =
            answers.iter().map(|_| None).collect();
        // Each is sent when it is first asked for its answer, so all are asked before any is waited for.
        let all = std::future::poll_fn(|cx| {
            for (answer, result) in answers.iter_mut().zip(&mut results) {
                let Some(waiting) = answer else { continue };
                if let Poll::Ready(ended) = waiting.as_mut().poll(cx) {
                    (*answer, *result) = (None, Some(ended));
                }
            }
            if answers.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
        });
        let waited = self.runtime.block_on(async { tokio::time::timeout(self.answer_time, all).await });
        drop(answers);
        if let Err(late) = waited {
            return self.judge(Err(late));
        }
        let said = results.into_iter().flatten().map(|result| self.judge(Ok(result)));
        let said = said.collect::<Result<Vec<_>, _>>()?;
        Ok(said.into_iter().skip(pending.len()).collect())
    }

    pub(crate) fn prepare(&mut self, sql: &str) -> Result<Statement, Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        if self.statements.len() >= STATEMENT_CACHE {
            self.statements.clear();
        }
        let answer = self.client.prepare(sql);
        let result = self.runtime.block_on(async { tokio::time::timeout(self.answer_time, answer).await });
        let statement = self.judge(result)?;
        self.statements.insert(sql.to_string(), statement.clone());
        Ok(statement)
    }

    fn judge<T>(
        &mut self,
        result: Result<Result<T, tokio_postgres::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, Error> {
        let error = match result {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => {
                let error = Error::Unavailable("PostgreSQL does not answer".into());
                self.trouble = Some(Trouble::Unknown(error.clone()));
                return Err(error);
            }
        };
        self.spoilt = true;
        let text = chain(&error);
        let Some(state) = error.code() else {
            let error = if error.is_closed() || self.client.is_closed() || is_io(&error) {
                let error = Error::Unavailable(format!("the connection to PostgreSQL was lost: {text}"));
                self.trouble = Some(Trouble::Lost(error.clone()));
                error
            } else {
                Error::Fault(text)
            };
            return Err(error);
        };
        Err(match state.code().get(..2) {
            _ if *state == SqlState::T_R_SERIALIZATION_FAILURE
                || *state == SqlState::T_R_DEADLOCK_DETECTED =>
            {
                self.trouble = Some(Trouble::Collision);
                Error::Unavailable(text)
            }
            // Connection exceptions, and the server going down or starting up.
            Some("08" | "57") if *state != SqlState::QUERY_CANCELED => {
                let error = Error::Unavailable(text);
                self.trouble = Some(Trouble::Lost(error.clone()));
                error
            }
            // Out of resources, cancelled by a time limit, lock not available, read-only, I/O errors.
            Some("53" | "57" | "55" | "25" | "58") => Error::Unavailable(text),
            Some("23") => Error::Conflict(text),
            // How a change of rows says that one is not there (`UpdateMany`); nothing else divides.
            _ if *state == SqlState::DIVISION_BY_ZERO => Error::Conflict("a row is not as it was".into()),
            _ if *state == SqlState::CHARACTER_NOT_IN_REPERTOIRE => Error::Unstorable,
            _ => Error::Fault(text),
        })
    }

    fn close_transaction(&mut self, verdict: Verdict) {
        // Nothing has been sent, not even the beginning.
        let idle = self.pending.iter().any(|pending| matches!(pending, Pending::Control(_)));
        if idle || self.trouble.is_some() && self.client.is_closed() {
            return;
        }
        if self.ended {
            if verdict == Verdict::Undo && self.trouble.is_none() && !self.spoilt {
                let text = "a closure failed after it had ended its transaction";
                self.trouble = Some(Trouble::Spoilt(Error::Fault(text.into())));
            }
            return;
        }
        if verdict == Verdict::Keep && self.trouble.is_none() && self.spoilt {
            let text = "a closure kept a transaction in which a statement had failed";
            self.trouble = Some(Trouble::Spoilt(Error::Fault(text.into())));
        }
        let keep = verdict == Verdict::Keep && self.trouble.is_none();
        if !keep {
            self.pending.clear();
        }
        let before = self.trouble.take();
        let closed = self.control(if keep { "COMMIT" } else { "ROLLBACK" });
        // Whether a commit that broke off took place, nobody knows: it must not be run again.
        if keep && let (Err(_), Some(Trouble::Lost(error))) = (&closed, &self.trouble) {
            self.trouble = Some(Trouble::Unknown(error.clone()));
        } else if let (Err(error), None, true) = (&closed, &self.trouble, keep) {
            self.trouble = Some(Trouble::Unknown(error.clone()));
        } else if self.trouble.is_none() {
            self.trouble = before;
        }
    }
}

/// A statement on its way.
enum Message<'m> {
    /// Text without parameters.
    Control(&'m str),
    Query(&'m Statement, Vec<&'m (dyn ToSql + Sync)>),
    Execute(&'m Statement, Vec<&'m (dyn ToSql + Sync)>),
}

impl Message<'_> {
    async fn send(&self, client: &Client) -> Result<Said, tokio_postgres::Error> {
        match self {
            Message::Control(sql) => client.batch_execute(sql).await.map(|()| Said::Count(0)),
            Message::Query(statement, values) => client.query(*statement, values).await.map(Said::Rows),
            Message::Execute(statement, values) => client.execute(*statement, values).await.map(Said::Count),
        }
    }
}

enum Said {
    Rows(Vec<tokio_postgres::Row>),
    Count(u64),
}

impl Said {
    fn rows(self) -> Vec<tokio_postgres::Row> {
        match self {
            Said::Rows(rows) => rows,
            Said::Count(_) => Vec::new(),
        }
    }

    fn count(&self) -> u64 {
        match self {
            Said::Rows(_) => 0,
            Said::Count(count) => *count,
        }
    }
}

enum Pending {
    Control(&'static str),
    Ask(Statement, List),
}

/// The parameter of a question that is sent later.
pub(crate) enum List {
    Numbers(Vec<i64>),
    Texts(Vec<String>),
}

impl Pending {
    fn message(&self) -> Message<'_> {
        match self {
            Pending::Control(sql) => Message::Control(sql),
            Pending::Ask(statement, List::Numbers(list)) => Message::Execute(statement, vec![list]),
            Pending::Ask(statement, List::Texts(list)) => Message::Execute(statement, vec![list]),
        }
    }
}

/// What stands for one parameter.
pub(crate) enum Value<'p> {
    One(Param<'p>),
    Column(Vec<Param<'p>>),
}

impl Value<'_> {
    fn as_sql(&self) -> &(dyn ToSql + Sync) {
        match self {
            Value::One(value) => value,
            Value::Column(values) => values,
        }
    }
}

fn references<P: ToSql + Sync>(params: &[P]) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(|param| param as &(dyn ToSql + Sync)).collect()
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

/// The error with what caused it; tokio-postgres tells the point only in the source. What the server said is told without
/// its details, which hold the values of rows: addresses have no place in a log.
fn chain(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        let constraint = said.constraint().map(|name| format!(", constraint {name}")).unwrap_or_default();
        return format!("{} ({}{constraint})", said.message(), said.code().code());
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    if text.contains("invalid peer certificate") {
        text.push_str(
            "; add ?sslrootcert=FILE with the authority that signed it to database_url, or ?sslmode=disable where the network is trusted",
        );
    }
    text
}

/// Where a worker takes its jobs from.
struct Lanes {
    reads: Receiver<Box<dyn Job>>,
    writes: Receiver<Box<dyn Job>>,
}

impl Lanes {
    /// The next job, reads first; `None` when the store is gone.
    fn next(&self) -> Option<Box<dyn Job>> {
        self.reads.try_recv().ok().or_else(|| {
            select! {
                recv(self.reads) -> job => job.ok(),
                recv(self.writes) -> job => job.ok(),
            }
        })
    }
}

fn work(target: &Target, lanes: &Lanes) {
    let mut link: Option<Link> = None;
    while let Some(mut job) = lanes.next() {
        if job.begin() {
            let end = run(target, &mut link, &mut *job);
            job.finish(end);
        }
    }
}

/// Runs a job until it is through, has failed for good, or may not be repeated.
fn run(target: &Target, link: &mut Option<Link>, job: &mut dyn Job) -> Result<(), Error> {
    let mut reconnected = false;
    for attempt in 1..=ATTEMPTS {
        let ready = match link {
            Some(ready) => ready,
            None => link.insert(open(target)?),
        };
        ready.trouble = None;
        job.run(&mut Tx { engine: On::Postgres(ready) });
        let trouble = ready.trouble.take();
        if ready.client.is_closed() || matches!(trouble, Some(Trouble::Lost(_) | Trouble::Unknown(_))) {
            *link = None;
        }
        match trouble {
            None => return Ok(()),
            Some(Trouble::Collision) if attempt < ATTEMPTS => {
                target.retried.fetch_add(1, Ordering::Relaxed);
                back_off(attempt);
            }
            Some(Trouble::Collision) => {
                return Err(Error::Unavailable("other transactions kept colliding with this one".into()));
            }
            Some(Trouble::Spoilt(error)) => return Err(error),
            // An idle connection dies unnoticed when the server restarts: one more try on a new one.
            Some(Trouble::Lost(_)) if !reconnected => reconnected = true,
            Some(Trouble::Lost(error) | Trouble::Unknown(error)) => {
                target.note(Some(&error));
                return Err(error);
            }
        }
    }
    Err(Error::Unavailable("the database refused every attempt".into()))
}

fn open(target: &Target) -> Result<Link, Error> {
    if let Some(error) = target.recent_failure() {
        return Err(error);
    }
    let link = Link::connect(target, STATEMENT_TIME, STATEMENT_TIME);
    target.note(link.as_ref().err());
    link.inspect_err(|error| tracing::warn!(%error, "no connection to PostgreSQL"))
}

/// Colliding transactions wait a little, each another while, before they meet again.
fn back_off(attempt: usize) {
    let most = 1u64 << attempt.min(6);
    let spread = kernel::random::jitter(&mut kernel::random::secure());
    std::thread::sleep(Duration::from_micros((most as f64 * 500.0 * spread) as u64));
}
