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

/// Set, cells from and reached, run, role, model version, deployment.
type Row = (usize, (u64, u64), Option<usize>, Option<Role>, Option<usize>, Option<usize>);

#[test]
fn the_graph_says_what_the_records_say() {
    let mut coverage = Coverage::default();
    let cases = cases::run("impact", 2_000, &history(), |history| {
        let state = history.state();
        let graph = Graph::of(&state, state.head.sequence, &HashMap::new());
        let mut tried = 0;
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
                        (reached.cells_from, reached.cells_reached),
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
            let sums =
                (cells.values().map(|(from, _)| from).sum(), cells.values().map(|(_, made)| made).sum());
            if (impact.cells_from, impact.cells_reached) != sums {
                return Err(format!("{history:#?}\nfrom {node:?}: {impact:?}, and not {sums:?} cells"));
            }
            coverage.saw_if(expected.is_empty(), "a node that reaches nothing");
            coverage.saw_if(expected.iter().any(|row| row.5.is_some()), "a deployment");
            coverage.saw_if(
                expected.iter().any(|row| row.4.is_some() && row.5.is_none()),
                "a model that serves no more",
            );
            coverage.saw_if(expected.iter().any(|row| row.1 == (0, 0)), "a set that no cell came to");
            coverage.saw_if(
                expected.iter().filter_map(|row| row.2).collect::<BTreeSet<_>>().len() > 1,
                "a set of several runs",
            );
            coverage.saw_if(expected.iter().any(|row| row.2.is_none()), "a set that nobody used");
            coverage.saw_if(expected.iter().any(|row| row.1.1 > 0), "cells of what was derived");
            let made = expected.iter().any(|row| row.1.1 > 0) && matches!(node, Node::Feature(..));
            coverage.saw_if(made, "cells of what was derived of a feature");
            tried += 1;
        }
        Ok(tried)
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
            "cells of what was derived",
            "cells of what was derived of a feature",
        ],
    );
}

/// Cells of each training set: those that came from something, and those of what was made of it.
type Cells = BTreeMap<usize, (u64, u64)>;

/// Everything that was made of these, by going through all pairs until nothing is new.
fn made<T: Ord + Copy>(start: BTreeSet<T>, pairs: &BTreeSet<(T, T)>) -> BTreeSet<T> {
    let mut all = start.clone();
    while let Some((_, to)) = pairs.iter().find(|(from, to)| all.contains(from) && !all.contains(to)) {
        all.insert(*to);
    }
    &all - &start
}

/// A view, or a feature of one.
type Part = (usize, Option<usize>);

/// What is derived of what: views of views; of features what a batch says, else views.
fn derived_pairs(history: &History) -> BTreeSet<(Part, Part)> {
    let mut pairs = BTreeSet::new();
    let mut traced = BTreeSet::new();
    let mut all = BTreeSet::new();
    for batch in &history.batches {
        for of in batch.made_of.iter().map(|of| history.batches[*of].view) {
            all.insert((of, batch.view));
            if batch.traced {
                traced.insert((of, batch.view));
            }
        }
    }
    for (of, view) in all {
        pairs.insert(((of, None), (view, None)));
        let bears_on = &history.bears_on[view];
        if traced.contains(&(of, view)) {
            pairs.extend(bears_on.iter().map(|(from, to)| ((of, Some(*from)), (view, *to))));
        } else {
            let read = bears_on.iter().map(|(from, _)| *from).chain([0]);
            pairs.extend(read.map(|from| ((of, Some(from)), (view, None))));
        }
    }
    pairs
}

/// Every node that data comes from, and the cells of each training set that come from it.
fn starts(history: &History) -> Vec<(Node, Cells)> {
    let mut starts = Vec::new();
    let batch_pairs: BTreeSet<(usize, usize)> = history
        .batches
        .iter()
        .enumerate()
        .flat_map(|(number, batch)| batch.made_of.iter().map(move |of| (*of, number)))
        .collect();
    let derived_pairs = derived_pairs(history);
    let of_batches = |wanted: BTreeSet<usize>| {
        let made = made(wanted.clone(), &batch_pairs);
        let mut cells = Cells::new();
        for (set, taken) in history.sets.iter().enumerate() {
            for taken in taken {
                for (batch, rows) in &taken.hits {
                    let of_batch = rows * taken.features.len() as u64;
                    if wanted.contains(batch) {
                        cells.entry(set).or_default().0 += of_batch;
                    }
                    if made.contains(batch) {
                        cells.entry(set).or_default().1 += of_batch;
                    }
                }
            }
        }
        cells
    };
    let all = |holds: &dyn Fn(&super::histories::Batch) -> bool| -> BTreeSet<usize> {
        (0..history.batches.len()).filter(|number| holds(&history.batches[*number])).collect()
    };
    for number in 0..history.batches.len() {
        starts.push((Node::Batch(id(BATCH, number)), of_batches(BTreeSet::from([number]))));
    }
    for file in history.batches.iter().map(|batch| batch.source).collect::<BTreeSet<_>>() {
        starts.push((Node::Source(source(file)), of_batches(all(&|batch| batch.source == file))));
    }
    for person in history.batches.iter().map(|batch| batch.person).collect::<BTreeSet<_>>() {
        let node = Node::Principal(PEOPLE[person].to_owned());
        starts.push((node, of_batches(all(&|batch| batch.person == person))));
    }
    for run in 0..history.runs {
        starts.push((Node::Run(id(RUN, run)), of_batches(all(&|batch| batch.run == Some(run)))));
    }
    for view in 0..history.views {
        for feature in [None, Some(0), Some(1), Some(2)] {
            let derived = made(BTreeSet::from([(view, feature)]), &derived_pairs);
            let mut cells = Cells::new();
            for (set, taken) in history.sets.iter().enumerate() {
                for taken in taken {
                    let rows: u64 = taken.hits.iter().map(|(_, rows)| rows).sum();
                    let whole = rows * taken.features.len() as u64;
                    match feature {
                        None if taken.view == view => cells.entry(set).or_default().0 += whole,
                        Some(feature) if taken.view == view && taken.features.contains(&feature) => {
                            cells.entry(set).or_default().0 += rows;
                        }
                        _ => {}
                    }
                    if derived.contains(&(taken.view, None)) {
                        cells.entry(set).or_default().1 += whole;
                        continue;
                    }
                    for _ in taken.features.iter().filter(|of| derived.contains(&(taken.view, Some(**of)))) {
                        cells.entry(set).or_default().1 += rows;
                    }
                }
            }
            let version = id(VERSION, view);
            let node = match feature {
                None => Node::ViewVersion(version),
                Some(feature) => Node::Feature(version, FEATURES[feature].to_owned()),
            };
            starts.push((node, cells));
        }
    }
    starts
}

/// What was made of the sets, by joining the lists of the history.
fn rows(history: &History, cells: &Cells) -> BTreeSet<Row> {
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
