//! `offers`: what is for rent.

use super::Nothing;
use crate::session::Session;
use clap::Command;
use comfy_table::{CellAlignment, Table, presets};
use crabbox_vast_engine::ops::offers::OfferList;
use crabbox_vast_engine::{Code, Error, Result};

pub fn definition() -> Command {
    super::command::<Nothing>("offers", true)
        .about("Show the offers that a lease would choose from, best first; rents nothing")
        .after_help(
            "Examples:\n  crabbox-vast offers --vast-gpu-name RTX_4090 --vast-max-dph-total 0.6\n  \
             crabbox-vast offers --vast-order 'dph_total asc' --json",
        )
}

pub async fn run(session: &Session) -> Result<u8> {
    let offers = session.engine()?.offers(&session.call).await?;
    session.progress.pause();
    if session.json {
        let document = serde_json::to_value(&offers)
            .map_err(|error| Error::new(Code::Internal, format!("the offers cannot be written: {error}")))?;
        session.printer.json(&document);
    } else if offers.offers.is_empty() {
        session.printer.note("no offer meets the settings");
        refusals(session, &offers);
    } else {
        session.printer.line(&table(&offers));
        refusals(session, &offers);
    }
    Ok(0)
}

fn refusals(session: &Session, offers: &OfferList) {
    let refused: Vec<String> = offers.refused.iter().map(|(why, count)| format!("{count} {why}")).collect();
    if !refused.is_empty() {
        session.progress.say(&format!("not suitable: {}", refused.join(", ")));
    }
}

fn table(offers: &OfferList) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    // A bid is made for the machine alone; the price counts its disk.
    let bids = offers.offers.iter().any(|offer| offer.bid.is_some());
    let mut header = vec!["OFFER", "GPU", "$/h", "RELIAB", "CORES", "DISK GB", "DOWN Mb/s", "CUDA", "PERF/$"];
    header.extend(bids.then_some("BID"));
    let numbers = 2..header.len();
    header.push("PLACE");
    table.set_header(header);
    for offer in &offers.offers {
        let number = |value: Option<f64>, places: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.places$}"))
        };
        let mut row = vec![
            offer.id.clone(),
            format!("{}x {}", offer.gpu_count, offer.gpu),
            format!("{:.4}", offer.price),
            number(offer.reliability, 3),
            number(offer.cpu_cores, 0),
            number(offer.disk_gb, 0),
            number(offer.down_mbps, 0),
            number(offer.cuda, 1),
            number(offer.dlperf_per_dollar, 1),
        ];
        row.extend(bids.then(|| number(offer.bid, 4)));
        row.push(offer.location.clone().unwrap_or_else(|| "-".to_owned()));
        table.add_row(row);
    }
    for index in numbers {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}
