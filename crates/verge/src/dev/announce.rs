//! What `verge dev` says when it is ready: where everything answers, and what to try.

use serde_json::json;

use super::control;
use super::listen;
use super::world::World;
use crate::cli::Dev;
use crate::terminal::{Style, Terminal};

pub fn announce(world: &World, terminal: Terminal, args: &Dev) {
    let url = world.url(0);
    if terminal.is_json() {
        events(world, terminal, &url);
    } else {
        text(world, terminal, args, &url);
    }
    if args.open {
        listen::open_browser(&url, terminal);
    }
}

fn app_url(world: &World, name: &str) -> String {
    format!("{}://{name}.localhost:{}", world.scheme, world.ports[0].number)
}

fn events(world: &World, terminal: Terminal, url: &str) {
    let apps: Vec<_> = world
        .sites
        .iter()
        .map(|site| {
            let state = site.state();
            let name = state.config.name.as_str();
            json!({ "name": name, "url": app_url(world, name), "ok": state.broken.is_none() })
        })
        .collect();
    terminal.event("ready", json!({ "url": url, "port": world.ports[0].number, "apps": apps }));
    if world.has_links() {
        for (at, place) in world.places.iter().enumerate() {
            terminal.event("place", json!({ "pop": place.pop.as_str(), "url": world.url(at) }));
        }
    }
    for database in control::databases(world) {
        terminal.event("database", json!({ "name": database.name, "at": database.at }));
    }
}

fn text(world: &World, terminal: Terminal, args: &Dev, url: &str) {
    let faint = |text: &str| terminal.paint(Style::Faint, text);
    let ready = terminal.paint(Style::Good, "ready");
    terminal.print(&format!("{ready} {}", terminal.paint(Style::Strong, url)));
    let apps: Vec<_> = world.sites.iter().map(|site| site.state()).collect();
    if apps.len() > 1 {
        for state in &apps {
            let name = state.config.name.as_str();
            terminal.note(&format!("      {name}: {}", app_url(world, name)));
        }
    }
    if let Some(host) = args.host.filter(|host| host.is_unspecified()) {
        terminal.note(&format!("      on every address of this machine ({host})"));
    }
    if world.has_links() {
        for (at, place) in world.places.iter().enumerate() {
            terminal.note(&format!("      {}: {}", place.pop, world.url(at)));
        }
    }
    for database in control::databases(world) {
        let Some(first) = database.at.first() else { continue };
        terminal.note(&format!("      database {}: {}", database.name, first.url));
        let how =
            format!("        for @libsql/client; its token: verge db token {}", database.name);
        terminal.note(&faint(&how));
    }
    let insecure = if args.https { "-k " } else { "" };
    terminal.note(&faint(&format!("try   curl {insecure}{url}/")));
    if let Some(cron) = apps.iter().find_map(|state| state.config.crons.first()) {
        let cron = cron.replace(' ', "+");
        terminal
            .note(&faint(&format!("      curl {insecure}'{url}/__verge/scheduled?cron={cron}'")));
    }
    if world.has_links() {
        terminal.note(&faint("      verge link cut A B, verge pop kill A: see verge link --help"));
    }
    terminal.note(&faint("      save a file and ask again; Ctrl-C stops"));
}
