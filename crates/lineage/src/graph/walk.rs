//! Walks over the graph, bounded: a result that was cut says so.

use std::collections::{HashSet, VecDeque};

use super::{Edge, Graph, Node, Relation};

/// Where a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// With the data: what came of it.
    Down,
    /// Against it: where it came from.
    Up,
}

/// What a walk reached, by the shortest way.
#[derive(Clone, Debug)]
pub struct Step {
    pub place: u32,
    pub depth: u32,
    /// The edge that it was reached by, and the step before; none for the start.
    pub by: Option<(Edge, usize)>,
}

#[derive(Clone, Debug)]
pub struct Walk {
    /// The start first, then by depth.
    pub steps: Vec<Step>,
    /// None: complete. Otherwise how many nodes were reached before it was cut.
    pub cut_at: Option<usize>,
}

impl Graph {
    /// Walks from a node over the edges that data flows along. Up from a view version, or from a feature of one, it goes to all
    /// the batches of the version; from what was made of a version, to the batches alone that answered.
    pub fn walk(&self, start: u32, direction: Direction, depth: u32, most: usize) -> Walk {
        let mut steps = vec![Step { place: start, depth: 0, by: None }];
        let mut seen = HashSet::from([start]);
        let of_version = matches!(self.node(start), Node::ViewVersion(_) | Node::Feature(..));
        let goes_up = |relation: Relation| match relation {
            Relation::Lists => true,
            Relation::Declares | Relation::Belongs => of_version,
            relation => relation.flows(),
        };
        let mut open = VecDeque::from([0usize]);
        let mut cut_at = None;
        while let Some(at) = open.pop_front() {
            let (place, reached) = (steps[at].place, steps[at].depth);
            let edges: Vec<Edge> = match direction {
                Direction::Down => {
                    self.leaving(place).iter().filter(|edge| edge.relation.flows()).copied().collect()
                }
                Direction::Up => {
                    self.reaching(place).filter(|edge| goes_up(edge.relation)).copied().collect()
                }
            };
            if reached == depth && !edges.is_empty() {
                cut_at = Some(steps.len());
                continue;
            }
            for edge in edges {
                let next = if direction == Direction::Down { edge.to } else { edge.from };
                if !seen.insert(next) {
                    continue;
                }
                if steps.len() == most {
                    return Walk { cut_at: Some(steps.len()), steps };
                }
                open.push_back(steps.len());
                steps.push(Step { place: next, depth: reached + 1, by: Some((edge, at)) });
            }
        }
        Walk { steps, cut_at }
    }
}
