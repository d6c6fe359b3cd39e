//! The servers that are up, warm, and with credits for those who have some. Only one of them is asked at a time.

use crate::cache::Cache;
use crate::credits::over_http::{grant_plenty, make_key};
use crate::gate::NamedSide;
use crate::gate::backend::{self, Asks};
use crate::gate::crowd::Crowd;
use crate::gate::options::{Measure, Options, SideName};
use crate::load::{Exchange, Span, Tally, closed_loop};
use crate::rounds::say;
use crate::server::{Contents, Server};
use std::net::SocketAddr;
use std::time::Duration;

/// Load that is not counted, before each that is.
const WARM_UP: Duration = Duration::from_millis(500);

pub struct Field {
    pub players: Vec<Player>,
    servers: Vec<Server>,
    loads: u64,
}

/// Whoever can be asked at the gate.
pub struct Player {
    pub side: SideName,
    /// Asked through the Node backend.
    pub by_backend: bool,
    /// For whom asks directly.
    pub service_key: Option<String>,
    /// The places of the server that is asked, and of one that works for it.
    door: usize,
    behind: Option<usize>,
}

impl Field {
    pub fn start(
        options: &Options,
        cache: &Cache,
        sides: &mut [NamedSide],
        crowd: &Crowd,
    ) -> Result<Field, String> {
        for (_, side) in sides.iter_mut() {
            say(&format!("preparing {}", side.title()));
            side.prepare()?;
        }
        let mut field = Field { players: Vec::new(), servers: Vec::new(), loads: 0 };
        for (name, side) in sides.iter_mut() {
            let server = side.start(Contents::Seeded)?;
            if *name == SideName::BetterAuth {
                field.add_backend(cache, crowd, *name, server)?;
                continue;
            }
            let configuration = cache.run_file(&format!("{}.toml", side.key()));
            let service_key = make_key(&options.program()?, &configuration)?;
            say(&format!("granting credits, {}", side.title()));
            grant_plenty(server.address, &service_key, crowd.owners())
                .map_err(|error| server.explain(error))?;
            let door = field.servers.len();
            field.servers.push(server);
            field.players.push(Player {
                side: *name,
                by_backend: false,
                service_key: Some(service_key),
                door,
                behind: None,
            });
        }
        if options.wants(Measure::Authorize) && options.wants_side(SideName::BetterAuth) {
            field.add_backend_of_tollgate(cache, crowd)?;
        }
        // Whatever a server does right after its start is over by then.
        std::thread::sleep(Duration::from_secs(1));
        Ok(field)
    }

    /// The same backend with Tollgate on SQLite behind it, which makes it comparable.
    fn add_backend_of_tollgate(&mut self, cache: &Cache, crowd: &Crowd) -> Result<(), String> {
        let on_sqlite = |player: &&Player| player.side == SideName::TollgateSqlite;
        let Some(player) = self.players.iter().find(on_sqlite) else { return Ok(()) };
        let (behind, side) = (player.door, player.side);
        let service_key = player.service_key.clone().unwrap_or_default();
        let auth = self.servers[behind].address;
        let backend = backend::start(cache, crowd, auth, &Asks::Tollgate(&service_key))?;
        self.seat_backend(side, behind, backend);
        Ok(())
    }

    fn add_backend(
        &mut self,
        cache: &Cache,
        crowd: &Crowd,
        side: SideName,
        auth: Server,
    ) -> Result<(), String> {
        let backend = backend::start(cache, crowd, auth.address, &Asks::BetterAuth)?;
        self.servers.push(auth);
        self.seat_backend(side, self.servers.len() - 1, backend);
        Ok(())
    }

    fn seat_backend(&mut self, side: SideName, behind: usize, backend: Server) {
        let door = self.servers.len();
        self.servers.push(backend);
        self.players.push(Player { side, by_backend: true, service_key: None, door, behind: Some(behind) });
    }

    /// The places of those who are asked without a backend between: Tollgate itself.
    pub fn direct(&self) -> Vec<usize> {
        (0..self.players.len()).filter(|&at| !self.players[at].by_backend).collect()
    }

    pub fn address(&self, at: usize) -> SocketAddr {
        self.servers[self.players[at].door].address
    }

    /// Differs for every load.
    pub fn next_load(&mut self) -> u64 {
        self.loads += 1;
        self.loads
    }

    /// The load on one player, and the processor time that it and those behind it took.
    pub fn closed_loop(
        &mut self,
        at: usize,
        connections: usize,
        measured: Duration,
        exchange: &mut impl Exchange,
    ) -> Result<(Tally, Duration), String> {
        let span = Span { address: self.address(at), connections, warm_up: WARM_UP, measured };
        let before = self.processor_time(at);
        let tally = closed_loop(span, exchange).map_err(|error| self.explain(at, error))?;
        let processor = self.processor_time(at) - before;
        self.check_alive(at)?;
        Ok((tally, processor))
    }

    pub fn check_alive(&mut self, at: usize) -> Result<(), String> {
        self.at_work(at).try_for_each(|server| self.servers[server].check_alive())
    }

    /// With the logs of those who are asked.
    pub fn explain(&self, at: usize, error: String) -> String {
        self.at_work(at).fold(error, |error, server| self.servers[server].explain(error))
    }

    fn processor_time(&self, at: usize) -> Duration {
        self.at_work(at).map(|server| self.servers[server].processor_time()).sum()
    }

    fn at_work(&self, at: usize) -> impl Iterator<Item = usize> + use<> {
        let player = &self.players[at];
        [Some(player.door), player.behind].into_iter().flatten()
    }
}
