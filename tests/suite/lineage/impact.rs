//! The law of impact: what the graph says is what a plain reading of the records says, from every node.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use catalog::records::Role;
use lineage::Graph;
use lineage::graph::Node;

use super::super::cases;
use super::super::coverage::Coverage;
use super::histories::{
    BATCH, DEPLOYMENT, FEATURES, History, MODEL_VERSION, PEOPLE, RUN, SET, VERSION, history, id, source,
};

/// Set, cells, run, role, model version, deployment.
type Row = (usize, u64, Option<usize>, Option<Role>, Option<usize>, Option<usize>);

#[test]
fn the_graph_says_what_the_records_say() {
    let mut coverage = Coverage::default();
    let cases = cases::run("impact", 2_000, &history(), |history| {
        let state = history.state();
        let graph = Graph::of(&state, state.head.sequence, &HashMap::new());
        let mut made = 0;
        for (node, cells) in starts(history) {
            let start = graph.place(&node).ok_or_else(|| format!("{node:?} is not in the graph"))?;
            let impact = graph.impact(start);
            let number = |place: u32| -> usize {
                let text = graph.node(place).to_string();
                usize::from_str_radix(&text[text.len() - 6..], 16).unwrap()
            };
            let found: BTreeSet<Row> = impact
                .reached
                .iter()
                .map(|reached| {
                    (
                        number(reached.training_set),
                        reached.cells_from,
                        reached.run.map(number),
                        reached.role,
                        reached.model_version.map(number),
                        reached.deployment.map(number),
                    )
                })
                .collect();
            let expected = rows(history, &cells);
            if found != expected {
                return Err(format!("{history:#?}\nfrom {node:?}\nfound {found:?}\nexpected {expected:?}"));
            }
            if impact.cells != cells.values().sum::<u64>() {
                return Err(format!("{history:#?}\nfrom {node:?}: {} cells", impact.cells));
            }
            coverage.saw_if(expected.is_empty(), "a node that reaches nothing");
            coverage.saw_if(expected.iter().any(|row| row.5.is_some()), "a deployment");
            coverage.saw_if(
                expected.iter().any(|row| row.4.is_some() && row.5.is_none()),
                "a model that serves no more",
            );
            coverage.saw_if(expected.iter().any(|row| row.1 == 0), "a set that no cell came to");
            coverage.saw_if(
                expected.iter().filter_map(|row| row.2).collect::<BTreeSet<_>>().len() > 1,
                "a set of several runs",
            );
            coverage.saw_if(expected.iter().any(|row| row.2.is_none()), "a set that nobody used");
            made += 1;
        }
        Ok(made)
    });
    assert!(cases >= 2_000);
    coverage.require(
        20,
        [
            "a node that reaches nothing",
            "a deployment",
            "a model that serves no more",
            "a set that no cell came to",
            "a set of several runs",
            "a set that nobody used",
        ],
    );
}

/// Every node that data comes from, and the cells of each training set that come from it.
fn starts(history: &History) -> Vec<(Node, BTreeMap<usize, u64>)> {
    let mut starts = Vec::new();
    let of_batches = |wanted: &dyn Fn(usize) -> bool| {
        let mut cells: BTreeMap<usize, u64> = BTreeMap::new();
        for (set, taken) in history.sets.iter().enumerate() {
            for taken in taken {
                for (_, rows) in taken.hits.iter().filter(|(batch, _)| wanted(*batch)) {
                    *cells.entry(set).or_default() += rows * taken.features.len() as u64;
                }
            }
        }
        cells
    };
    for number in 0..history.batches.len() {
        starts.push((Node::Batch(id(BATCH, number)), of_batches(&|batch| batch == number)));
    }
    for file in history.batches.iter().map(|batch| batch.source).collect::<BTreeSet<_>>() {
        let cells = of_batches(&|batch| history.batches[batch].source == file);
        starts.push((Node::Source(source(file)), cells));
    }
    for person in history.batches.iter().map(|batch| batch.person).collect::<BTreeSet<_>>() {
        let cells = of_batches(&|batch| history.batches[batch].person == person);
        starts.push((Node::Principal(PEOPLE[person].to_owned()), cells));
    }
    for run in 0..history.runs {
        starts.push((Node::Run(id(RUN, run)), of_batches(&|batch| history.batches[batch].run == Some(run))));
    }
    for view in 0..history.views {
        let mut of_view: BTreeMap<usize, u64> = BTreeMap::new();
        for (set, taken) in history.sets.iter().enumerate() {
            for taken in taken.iter().filter(|taken| taken.view == view) {
                let rows: u64 = taken.hits.iter().map(|(_, rows)| rows).sum();
                of_view.insert(set, rows * taken.features.len() as u64);
            }
        }
        starts.push((Node::ViewVersion(id(VERSION, view)), of_view));
        for (feature, name) in FEATURES.iter().enumerate() {
            let mut cells: BTreeMap<usize, u64> = BTreeMap::new();
            for (set, taken) in history.sets.iter().enumerate() {
                let has = |taken: &&super::histories::Taken| {
                    taken.view == view && taken.features.contains(&feature)
                };
                for taken in taken.iter().filter(has) {
                    cells.insert(set, taken.hits.iter().map(|(_, rows)| rows).sum());
                }
            }
            starts.push((Node::Feature(id(VERSION, view), (*name).to_owned()), cells));
        }
    }
    starts
}

/// What was made of the sets, by joining the lists of the history.
fn rows(history: &History, cells: &BTreeMap<usize, u64>) -> BTreeSet<Row> {
    let mut rows = BTreeSet::new();
    for (set, cells) in cells {
        let used: BTreeSet<(usize, Role)> = history
            .uses
            .iter()
            .filter(|(used, ..)| used == set)
            .map(|(_, run, role)| (*run, *role))
            .collect();
        if used.is_empty() {
            rows.insert((*set, *cells, None, None, None, None));
        }
        for (run, role) in &used {
            let told = used.iter().any(|(other, role)| other == run && *role != Role::Unknown);
            if *role == Role::Unknown && told {
                continue;
            }
            let models: Vec<usize> =
                (0..history.models.len()).filter(|model| history.models[*model] == Some(*run)).collect();
            if models.is_empty() {
                rows.insert((*set, *cells, Some(*run), Some(*role), None, None));
            }
            for model in models {
                let serving: Vec<usize> = (0..history.deployments.len())
                    .filter(|place| history.deployments[*place].last() == Some(&Some(model)))
                    .collect();
                if serving.is_empty() {
                    rows.insert((*set, *cells, Some(*run), Some(*role), Some(model), None));
                }
                for place in serving {
                    rows.insert((*set, *cells, Some(*run), Some(*role), Some(model), Some(place)));
                }
            }
        }
    }
    rows
}

/// Ids of all kinds end in their number.
#[test]
fn numbers_are_read_back() {
    let text = feature::TrainingSetId::to_string(&id(SET, 0xab_cdef));
    assert!(text.ends_with("abcdef"), "{text}");
    for kind in [BATCH, RUN, MODEL_VERSION, DEPLOYMENT] {
        assert_ne!(id::<feature::BatchId>(kind, 1), id(SET, 1));
    }
}
