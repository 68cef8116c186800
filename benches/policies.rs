//! What one decision costs: of a feature, by twenty policies, for a user of five roles. The bar is 20 µs.
//!
//! `cargo bench -p lineament-policy --bench policies`

use std::hint::black_box;
use std::time::Instant;

use feature::definition::parse_files;
use feature::policy::{Action, Asker, Policies, PolicyFile, Resource};

const VIEW: &str = "kind = \"feature_view\"\nname = \"weather\"\nentity = \"airport\"\ntags = [\"hourly\"]\n\
    [time]\nvalid_at = \"time_hour\"\nknown_at = \"arrival\"\n[[features]]\nname = \"temp\"\ntype = \"float64\"\ntags = [\"measured\"]\n";
const ENTITY: &str =
    "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n";
const DECISIONS: u32 = 20_000;

fn main() {
    let files = [("airport.toml", ENTITY), ("weather.toml", VIEW)];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let definitions = parse_files(files.to_vec()).expect("definitions");
    let view = &definitions.views[0].definition;
    let mut text = String::from("permit(principal, action, resource);\n");
    for number in 0..19 {
        text.push_str(&format!(
            "@mask(\"round:{}\") permit(principal in Role::\"role {number}\", action == Action::\"read\", resource)\n\
             when {{ resource.tags.contains(\"measured\") && context.purpose == Purpose::\"train\" }};\n",
            number + 1
        ));
    }
    let file = PolicyFile { name: "base.cedar".to_owned(), text };
    let policies = lineament_policy::compile(&[file]).expect("policies");
    let roles = (0..5).map(|number| format!("role {number}")).collect();
    let asker = Asker { principal: "ann".to_owned(), roles, ..Asker::default() };
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let started = Instant::now();
        for _ in 0..DECISIONS {
            let of = Resource::Feature(view, &view.features[0]);
            black_box(policies.decide(black_box(&asker), Action::Read, of));
        }
        best = best.min(started.elapsed().as_secs_f64() / f64::from(DECISIONS));
    }
    println!("one decision of {} policies: {:.2} µs", policies.ids().len(), best * 1e6);
}
