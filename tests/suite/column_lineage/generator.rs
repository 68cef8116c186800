//! Random queries whose answer is determined by what is in the store, up to the order of rows where none is asked for.
//!
//! Whatever depends on which of several equal rows comes first is written so that it does not: windows over an order that may have ties are of
//! functions that treat these alike, and a limit stands over an order by all columns. Numbers are integers, since sums of floats differ
//! from run to run.

use std::fmt::Write;

use storage::SplitMix;

/// Numbers from a seed.
pub struct Dice(SplitMix);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(SplitMix::new(seed))
    }

    /// Less than `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0.below(sides)
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len() as u64) as usize]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Int,
    Text,
    Time,
}

/// A column as it is written, and what it holds.
#[derive(Clone, Debug)]
struct Column {
    text: String,
    kind: Type,
}

/// Something that stands after FROM.
struct From {
    text: String,
    columns: Vec<Column>,
}

#[derive(Clone, Debug)]
pub struct Query {
    pub text: String,
    /// Whether the order of the rows is asked for, by all columns.
    pub ordered: bool,
}

pub struct Generator {
    dice: Dice,
    names: u32,
    /// Whether a subquery may stand in an expression here. In aggregates and windows DataFusion takes none.
    subqueries: bool,
    /// Whether this SELECT has an aggregate with an order of its own. DataFusion does not bear two of them whose orders differ.
    ordered: bool,
    /// Whether queries are of all that a reader of a governed store might try.
    wide: bool,
    /// Queries that the statement defines by WITH: name, text, and what its columns hold.
    defined: Vec<(String, String, Vec<Type>)>,
}

const WEATHER: [(&str, Type); 5] = [
    ("origin", Type::Text),
    ("valid_at", Type::Time),
    ("temp", Type::Int),
    ("visib", Type::Int),
    ("sky", Type::Text),
];
const DEPARTURES: [(&str, Type); 5] = [
    ("origin", Type::Text),
    ("valid_at", Type::Time),
    ("delay", Type::Int),
    ("carrier", Type::Text),
    ("tailnum", Type::Text),
];
const PLANES: [(&str, Type); 4] =
    [("tailnum", Type::Text), ("valid_at", Type::Time), ("seats", Type::Int), ("maker", Type::Text)];
const VIEWS: [(&str, &[(&str, Type)]); 3] =
    [("weather", &WEATHER), ("departures", &DEPARTURES), ("planes", &PLANES)];

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            names: 0,
            subqueries: true,
            ordered: false,
            wide: false,
            defined: Vec::new(),
        }
    }

    /// With common table expressions, time travel of every view, limits within, more aggregates and windows, and expressions that fail
    /// on what the guest of the policies' tests may not see.
    pub fn wide(seed: u64) -> Self {
        Self { wide: true, ..Self::new(seed) }
    }

    pub fn query(&mut self) -> Query {
        let query = self.bare();
        if self.defined.is_empty() {
            return query;
        }
        let defined: Vec<String> =
            self.defined.iter().map(|(name, text, _)| format!("{name} AS ({text})")).collect();
        Query { text: format!("WITH {} {}", defined.join(", "), query.text), ..query }
    }

    fn bare(&mut self) -> Query {
        let (text, outputs) = match self.dice.roll(8) {
            0 => self.set(2),
            _ => self.select(2),
        };
        if !self.dice.one_in(3) {
            return Query { text, ordered: false };
        }
        let order: Vec<String> = (1..=outputs.len()).map(|at| at.to_string()).collect();
        let mut ordered = format!("{text} ORDER BY {}", order.join(", "));
        if self.dice.one_in(2) {
            write!(ordered, " LIMIT {}", 1 + self.dice.roll(4)).unwrap();
        }
        if self.dice.one_in(4) {
            write!(ordered, " OFFSET {}", 1 + self.dice.roll(2)).unwrap();
        }
        Query { text: ordered, ordered: true }
    }

    fn name(&mut self, letter: char) -> String {
        self.names += 1;
        format!("{letter}{}", self.names)
    }

    /// UNION and its kin of two selects whose columns are of the same types.
    fn set(&mut self, depth: u32) -> (String, Vec<Type>) {
        let width = 1 + self.dice.roll(3) as usize;
        let kinds: Vec<Type> = (0..width).map(|_| self.kind()).collect();
        let operator = *self.dice.pick(&["UNION ALL", "UNION", "INTERSECT", "EXCEPT"]);
        let mut sides = Vec::new();
        for _ in 0..2 {
            let from = self.from(depth.saturating_sub(1));
            let columns: Vec<String> = kinds
                .iter()
                .enumerate()
                .map(|(at, kind)| format!("{} AS c{at}", self.expression(*kind, &from.columns, 1)))
                .collect();
            sides.push(format!(
                "SELECT {} FROM {}{}",
                columns.join(", "),
                from.text,
                self.filter(&from.columns)
            ));
        }
        (format!("{} {operator} {}", sides[0], sides[1]), kinds)
    }

    fn kind(&mut self) -> Type {
        *self.dice.pick(&[Type::Int, Type::Int, Type::Text, Type::Time])
    }

    /// A SELECT whose columns are called c0, c1, ….
    fn select(&mut self, depth: u32) -> (String, Vec<Type>) {
        let from = self.from(depth);
        let filter = self.filter(&from.columns);
        let width = 1 + self.dice.roll(4) as usize;
        match self.dice.roll(6) {
            0 | 1 => self.grouped(&from, &filter, width),
            2 => self.windowed(&from, &filter, width),
            3 => {
                let (columns, kinds) = self.plain(&from.columns, width);
                (format!("SELECT DISTINCT {} FROM {}{filter}", columns.join(", "), from.text), kinds)
            }
            4 if self.dice.one_in(2) => self.first_of_each(&from, &filter, width),
            _ => {
                let (columns, kinds) = self.plain(&from.columns, width);
                (format!("SELECT {} FROM {}{filter}", columns.join(", "), from.text), kinds)
            }
        }
    }

    fn plain(&mut self, columns: &[Column], width: usize) -> (Vec<String>, Vec<Type>) {
        let kinds: Vec<Type> = (0..width).map(|_| self.kind()).collect();
        let texts = kinds
            .iter()
            .enumerate()
            .map(|(at, kind)| format!("{} AS c{at}", self.expression(*kind, columns, 2)))
            .collect();
        (texts, kinds)
    }

    fn grouped(&mut self, from: &From, filter: &str, width: usize) -> (String, Vec<Type>) {
        let mut keys: Vec<(String, Type)> = Vec::new();
        for _ in 0..self.dice.roll(3) {
            let key = self.any(&from.columns);
            // A set of groups names no column twice.
            if !keys.iter().any(|(known, _)| *known == key.text) {
                keys.push((key.text, key.kind));
            }
        }
        let mut columns = Vec::new();
        let mut kinds = Vec::new();
        for (key, kind) in &keys {
            columns.push(format!("{key} AS c{}", columns.len()));
            kinds.push(*kind);
        }
        self.ordered = false;
        for _ in 0..width {
            let (text, kind) = self.flat(|flat| flat.aggregate(&from.columns));
            columns.push(format!("{text} AS c{}", columns.len()));
            kinds.push(kind);
        }
        let mut text = format!("SELECT {} FROM {}{filter}", columns.join(", "), from.text);
        if !keys.is_empty() {
            let keys: Vec<&str> = keys.iter().map(|(key, _)| key.as_str()).collect();
            let keys = keys.join(", ");
            let grouping = if self.dice.one_in(5) {
                let sets = if self.wide && self.dice.one_in(2) { "CUBE" } else { "ROLLUP" };
                format!("{sets} ({keys})")
            } else {
                keys
            };
            write!(text, " GROUP BY {grouping}").unwrap();
            if self.dice.one_in(3) {
                let (aggregate, _) = self.flat(|flat| flat.counted(&from.columns));
                write!(text, " HAVING {aggregate} > {}", self.dice.roll(4)).unwrap();
            }
        }
        (text, kinds)
    }

    fn counted(&mut self, columns: &[Column]) -> (String, Type) {
        let number = self.expression(Type::Int, columns, 1);
        let text = self.expression(Type::Text, columns, 1);
        if self.wide && self.dice.one_in(3) {
            let predicate = self.predicate(columns, 1);
            let called = match self.dice.roll(6) {
                0 => format!("CAST(round(avg({number}) * 8) AS BIGINT)"),
                1 => format!("median({number})"),
                2 => format!("CAST(approx_distinct({text}) AS BIGINT)"),
                3 => format!("bit_xor({number})"),
                4 => format!("sum(DISTINCT {number})"),
                _ => format!("CAST(bool_and({predicate}) AS BIGINT)"),
            };
            return (called, Type::Int);
        }
        let called = match self.dice.roll(6) {
            0 => "count(*)".to_owned(),
            1 => format!("count(DISTINCT {text})"),
            2 => format!("sum({number})"),
            3 => format!("min({number})"),
            4 => format!("count({text})"),
            _ => format!("max({number})"),
        };
        (called, Type::Int)
    }

    fn aggregate(&mut self, columns: &[Column]) -> (String, Type) {
        let (called, kind) = match self.dice.roll(4) {
            0 => {
                let kind = self.kind();
                let value = self.expression(kind, columns, 1);
                let function = *self.dice.pick(&["min", "max"]);
                (format!("{function}({value})"), kind)
            }
            1 if !self.ordered => {
                self.ordered = true;
                let value = self.expression(Type::Text, columns, 1);
                (format!("string_agg({value}, ',' ORDER BY {value})"), Type::Text)
            }
            _ => self.counted(columns),
        };
        if self.dice.one_in(4) {
            return (format!("{called} FILTER (WHERE {})", self.predicate(columns, 1)), kind);
        }
        (called, kind)
    }

    fn windowed(&mut self, from: &From, filter: &str, width: usize) -> (String, Vec<Type>) {
        let (mut columns, mut kinds) = self.plain(&from.columns, width);
        let (text, kind) = self.flat(|flat| flat.window(&from.columns));
        columns.push(format!("{text} AS c{}", columns.len()));
        kinds.push(kind);
        let mut text = format!("SELECT {} FROM {}{filter}", columns.join(", "), from.text);
        if self.dice.one_in(4) {
            let by = self.any(&from.columns).text;
            write!(text, " QUALIFY rank() OVER (ORDER BY {by}) <= {}", 1 + self.dice.roll(3)).unwrap();
        }
        (text, kinds)
    }

    fn window(&mut self, columns: &[Column]) -> (String, Type) {
        let kind = self.kind();
        let partition = if self.dice.one_in(2) {
            format!("PARTITION BY {} ", self.column(kind, columns))
        } else {
            String::new()
        };
        let kind = self.kind();
        let key = self.column(kind, columns);
        let number = self.expression(Type::Int, columns, 1);
        if self.wide && self.dice.one_in(3) {
            let text = match self.dice.roll(3) {
                0 => format!("CAST(round(cume_dist() OVER ({partition}ORDER BY {key}) * 1000) AS BIGINT)"),
                1 => format!(
                    "count(*) OVER ({partition}ORDER BY {key} GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW)"
                ),
                _ => format!("sum({number}) OVER ({partition}ORDER BY {key} RANGE UNBOUNDED PRECEDING)"),
            };
            return (text, Type::Int);
        }
        match self.dice.roll(6) {
            0 => (format!("rank() OVER ({partition}ORDER BY {key})"), Type::Int),
            1 => (format!("dense_rank() OVER ({partition}ORDER BY {key} DESC)"), Type::Int),
            2 => (format!("sum({number}) OVER ({partition}ORDER BY {key})"), Type::Int),
            3 => (format!("count(*) OVER ({partition})"), Type::Int),
            4 => (format!("max({number}) OVER ({partition})"), Type::Int),
            _ => {
                // Ties are rows that are equal in all that there is.
                let rest = others(&key, columns);
                let function = *self.dice.pick(&["lag", "lead", "first_value"]);
                let kind = self.kind();
                let value = self.column(kind, columns);
                (format!("{function}({value}) OVER ({partition}ORDER BY {key}{rest})"), kind)
            }
        }
    }

    fn first_of_each(&mut self, from: &From, filter: &str, width: usize) -> (String, Vec<Type>) {
        let (columns, kinds) = self.flat(|flat| flat.plain(&from.columns, width));
        let by = self.any(&from.columns).text;
        let rest = others(&by, &from.columns);
        let text = format!(
            "SELECT DISTINCT ON ({by}) {} FROM {}{filter} ORDER BY {by}{}",
            columns.join(", "),
            from.text,
            rest
        );
        // What stands around it has an order of its own.
        (format!("SELECT * FROM ({text}) AS {}", self.name('d')), kinds)
    }

    fn filter(&mut self, columns: &[Column]) -> String {
        if self.dice.one_in(2) {
            return String::new();
        }
        let mut parts = vec![self.predicate(columns, 2)];
        if self.dice.one_in(3) {
            parts.push(self.subquery_predicate(columns));
        }
        format!(" WHERE {}", parts.join(" AND "))
    }

    fn subquery_predicate(&mut self, columns: &[Column]) -> String {
        let (view, own) = *self.dice.pick(&VIEWS);
        let alias = self.name('s');
        let inner: Vec<Column> = columns_of(&alias, own);
        let condition = self.predicate(&inner, 1);
        let negated = if self.dice.one_in(3) { "NOT " } else { "" };
        let compared = self.column(Type::Text, columns);
        let text = self.column(Type::Text, &inner);
        match self.dice.roll(3) {
            0 => format!(
                "{compared} {negated}IN (SELECT {text} FROM {view} AS {alias} WHERE {condition} AND {text} IS NOT NULL)"
            ),
            1 => format!(
                "{negated}EXISTS (SELECT 1 FROM {view} AS {alias} WHERE {text} = {compared} AND {condition})"
            ),
            _ => {
                let number = self.column(Type::Int, &inner);
                let outer = self.column(Type::Int, columns);
                format!("{outer} >= (SELECT min({number}) FROM {view} AS {alias} WHERE {condition})")
            }
        }
    }

    fn from(&mut self, depth: u32) -> From {
        if self.wide && depth > 0 && self.dice.one_in(4) {
            return if self.dice.one_in(3) { self.limited(depth - 1) } else { self.common(depth - 1) };
        }
        match self.dice.roll(if depth == 0 { 5 } else { 14 }) {
            0..=3 => self.view(),
            4 => self.history(),
            5 | 6 => {
                let (text, kinds) =
                    if self.dice.one_in(5) { self.set(depth - 1) } else { self.select(depth - 1) };
                let alias = self.name('q');
                From { text: format!("({text}) AS {alias}"), columns: outputs(&alias, &kinds) }
            }
            7..=9 => self.join(depth - 1),
            10 => self.half_join(depth - 1),
            11 => self.asof(),
            12 => self.historical(depth - 1),
            _ => self.unnested(),
        }
    }

    /// One of the queries of WITH, mostly a new one.
    fn common(&mut self, depth: u32) -> From {
        let (name, kinds) = if !self.defined.is_empty() && self.dice.one_in(2) {
            let (name, _, kinds) = self.dice.pick(&self.defined).clone();
            (name, kinds)
        } else {
            let (text, kinds) = self.select(depth);
            let name = self.name('w');
            self.defined.push((name.clone(), text, kinds.clone()));
            (name, kinds)
        };
        let alias = self.name('q');
        From { text: format!("{name} AS {alias}"), columns: outputs(&alias, &kinds) }
    }

    /// The first few rows in the order of all columns.
    fn limited(&mut self, depth: u32) -> From {
        let (text, kinds) = self.select(depth);
        let order: Vec<String> = (1..=kinds.len()).map(|at| at.to_string()).collect();
        let (alias, limit) = (self.name('q'), 1 + self.dice.roll(4));
        let text = format!("({text} ORDER BY {} LIMIT {limit}) AS {alias}", order.join(", "));
        From { text, columns: outputs(&alias, &kinds) }
    }

    fn view(&mut self) -> From {
        let (view, own) = *self.dice.pick(&VIEWS);
        let alias = self.name('t');
        if self.wide && self.dice.one_in(5) {
            // All views are filled from sequence 4 on, and an hour of the log lies between its entries.
            let table = match self.dice.roll(2) {
                0 => format!("at_sequence('{view}', {})", 4 + self.dice.roll(2)),
                _ => format!("{view} FOR SYSTEM_TIME AS OF TIMESTAMP '2013-02-01T03:30:00Z'"),
            };
            return From { text: format!("{table} AS {alias}"), columns: columns_of(&alias, own) };
        }
        let table = match self.dice.roll(8) {
            0 if view == "weather" => "at_sequence('weather', 2)".to_owned(),
            1 => format!("\"{view}@1\""),
            _ => view.to_owned(),
        };
        From { text: format!("{table} AS {alias}"), columns: columns_of(&alias, own) }
    }

    /// What of a history is the same in any store: neither batch nor file.
    fn history(&mut self) -> From {
        let (view, own) = *self.dice.pick(&VIEWS);
        let alias = self.name('h');
        let mut columns = columns_of(&alias, own);
        columns.push(Column { text: format!("{alias}.known_at"), kind: Type::Time });
        From { text: format!("history('{view}') AS {alias}"), columns }
    }

    fn join(&mut self, depth: u32) -> From {
        let (left, right) = (self.from(depth), self.from(0));
        let how = *self.dice.pick(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"]);
        let condition = if how == "CROSS JOIN" {
            String::new()
        } else {
            self.condition(&left, &right, how != "FULL JOIN")
        };
        let columns = left.columns.into_iter().chain(right.columns).collect();
        From { text: format!("{} {how} {}{condition}", left.text, right.text), columns }
    }

    fn half_join(&mut self, depth: u32) -> From {
        let (left, right) = (self.from(depth), self.from(0));
        let how = *self.dice.pick(&["LEFT SEMI JOIN", "LEFT ANTI JOIN"]);
        let condition = self.condition(&left, &right, true);
        From { text: format!("{} {how} {}{condition}", left.text, right.text), columns: left.columns }
    }

    fn condition(&mut self, left: &From, right: &From, residual: bool) -> String {
        let kind = *self.dice.pick(&[Type::Text, Type::Text, Type::Int]);
        let mut text =
            format!(" ON {} = {}", self.column(kind, &left.columns), self.column(kind, &right.columns));
        if residual && self.dice.one_in(3) {
            let operator = *self.dice.pick(&["<", ">=", "<>"]);
            let (one, other) =
                (self.column(Type::Int, &left.columns), self.column(Type::Int, &right.columns));
            write!(text, " AND {one} {operator} {other}").unwrap();
        }
        text
    }

    fn asof(&mut self) -> From {
        let (left, right) = (self.name('a'), self.name('b'));
        let (one, other) =
            if self.dice.one_in(2) { ("departures", "weather") } else { ("weather", "departures") };
        let own = |view: &str| if view == "weather" { WEATHER } else { DEPARTURES };
        let mut columns = columns_of(&left, &own(one));
        let operator = *self.dice.pick(&[">=", ">", "<=", "<"]);
        // A history is matched by any of its times, and the last of those that are equal wins: known_at is not the same twice for a key.
        let (table, time) = match self.dice.roll(4) {
            0 => (format!("history('{other}')"), "known_at"),
            _ => (other.to_owned(), "valid_at"),
        };
        columns.extend(columns_of(&right, &own(other)));
        let text = format!(
            "({one} AS {left} ASOF JOIN {table} AS {right} MATCH_CONDITION ({left}.valid_at {operator} {right}.{time}) ON {left}.origin = {right}.origin)"
        );
        From { text, columns }
    }

    fn historical(&mut self, depth: u32) -> From {
        let spine = self.from(depth.min(1));
        let (key, at) = (self.column(Type::Text, &spine.columns), self.column(Type::Time, &spine.columns));
        let carried = self.expression(Type::Int, &spine.columns, 1);
        let filter = self.filter(&spine.columns);
        let alias = self.name('f');
        let (entity, features, found) = if self.dice.one_in(3) {
            ("tailnum", "'planes.seats', 'planes.maker'", vec![("seats", Type::Int), ("maker", Type::Text)])
        } else {
            let found =
                vec![("temp", Type::Int), ("sky", Type::Text), ("carrier", Type::Text), ("delay", Type::Int)];
            ("origin", "'weather.temp', 'weather.sky', 'departures.carrier', 'departures.delay'", found)
        };
        let known_by = if self.dice.one_in(4) { ", known_by => '2013-01-01T06:30:00Z'" } else { "" };
        let ttl = if self.dice.one_in(4) && entity == "origin" { ", ttl => ['weather=1h']" } else { "" };
        let text = format!(
            "historical_features((SELECT {key} AS {entity}, {at} AS at, {carried} AS carried FROM {}{filter}), features => [{features}]{known_by}{ttl}) AS {alias}",
            spine.text
        );
        let mut columns =
            columns_of(&alias, &[(entity, Type::Text), ("at", Type::Time), ("carried", Type::Int)]);
        columns.extend(columns_of(&alias, &found));
        From { text, columns }
    }

    fn unnested(&mut self) -> From {
        let inner = self.view();
        let (one, other) =
            (self.expression(Type::Int, &inner.columns, 1), self.expression(Type::Int, &inner.columns, 1));
        let text = self.column(Type::Text, &inner.columns);
        let when = self.column(Type::Time, &inner.columns);
        let alias = self.name('u');
        let list = if self.dice.one_in(2) {
            format!("make_array({one}, {other})")
        } else {
            // As many rows as the text has letters before its second a, or so.
            format!("array_remove_all(make_array({one}, 1, {other}), 1)")
        };
        From {
            text: format!(
                "(SELECT unnest({list}) AS c0, {text} AS c1, {when} AS c2 FROM {}) AS {alias}",
                inner.text
            ),
            columns: columns_of(&alias, &[("c0", Type::Int), ("c1", Type::Text), ("c2", Type::Time)]),
        }
    }

    /// What it makes, without subqueries in its expressions.
    fn flat<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.subqueries, false);
        let made = make(self);
        self.subqueries = before;
        made
    }

    /// A column of any type.
    fn any(&mut self, columns: &[Column]) -> Column {
        self.dice.pick(columns).clone()
    }

    /// A column of a type, or a constant where there is none.
    fn column(&mut self, kind: Type, columns: &[Column]) -> String {
        let of: Vec<&Column> = columns.iter().filter(|column| column.kind == kind).collect();
        if of.is_empty() {
            return constant(kind).to_owned();
        }
        self.dice.pick(&of).text.clone()
    }

    fn expression(&mut self, kind: Type, columns: &[Column], depth: u32) -> String {
        if depth == 0 || self.dice.one_in(2) {
            return self.column(kind, columns);
        }
        if self.wide && kind == Type::Int && self.dice.one_in(6) {
            return self.trap(columns);
        }
        let deeper = depth - 1;
        match (kind, self.dice.roll(10)) {
            (_, 0) => {
                let condition = self.predicate(columns, deeper);
                let (one, other) =
                    (self.expression(kind, columns, deeper), self.expression(kind, columns, deeper));
                format!("CASE WHEN {condition} THEN {one} ELSE {other} END")
            }
            (_, 1) => {
                let function = *self.dice.pick(&["coalesce", "nullif"]);
                let (one, other) =
                    (self.expression(kind, columns, deeper), self.expression(kind, columns, deeper));
                format!("{function}({one}, {other})")
            }
            (Type::Int, 2) if self.subqueries => {
                let (view, own) = *self.dice.pick(&VIEWS);
                let alias = self.name('s');
                let inner = columns_of(&alias, own);
                let (value, condition) = (self.column(Type::Int, &inner), self.predicate(&inner, 1));
                format!("(SELECT max({value}) FROM {view} AS {alias} WHERE {condition})")
            }
            (Type::Int, 3) => {
                let text = self.expression(Type::Text, columns, deeper);
                format!("CAST(length({text}) AS BIGINT)")
            }
            (Type::Int, 4) if self.subqueries => {
                let (view, own) = *self.dice.pick(&VIEWS);
                let alias = self.name('s');
                let inner = columns_of(&alias, own);
                let (value, key) = (self.column(Type::Int, &inner), self.column(Type::Text, &inner));
                let outer: Vec<&Column> = columns.iter().filter(|column| column.kind == Type::Text).collect();
                if outer.is_empty() {
                    return self.column(kind, columns);
                }
                let outer = self.dice.pick(&outer).text.clone();
                format!("(SELECT max({value}) FROM {view} AS {alias} WHERE {key} = {outer})")
            }
            (Type::Int, _) => {
                let operator = *self.dice.pick(&["+", "-", "*"]);
                let (one, other) =
                    (self.expression(kind, columns, deeper), self.expression(kind, columns, deeper));
                format!("({one} {operator} {other})")
            }
            (Type::Text, 2..=5) => {
                let (one, other) =
                    (self.expression(kind, columns, deeper), self.expression(kind, columns, deeper));
                format!("({one} || {other})")
            }
            (Type::Text, _) => format!("upper({})", self.expression(kind, columns, deeper)),
            (Type::Time, _) => format!("date_trunc('hour', {})", self.expression(kind, columns, deeper)),
        }
    }

    /// What fails on values that are hidden, and on no other: a division by zero at what a mask or a filter takes away, a text that is a
    /// number at JFK alone.
    fn trap(&mut self, columns: &[Column]) -> String {
        let at = |name: &str| match name {
            "temp" => Some(41),
            "delay" => Some(5),
            "visib" => Some(9),
            "seats" => Some(10),
            _ => None,
        };
        let mut traps = Vec::new();
        for Column { text, kind } in columns {
            let Some((alias, name)) = text.split_once('.') else { continue };
            traps.extend(at(name).map(|value| format!("(100 / ({text} - {value}))")));
            // Elsewhere an origin may be any text.
            if *kind == Type::Text && name == "origin" && alias.starts_with(['t', 'h', 'a', 'b']) {
                traps.push(format!("CAST(CASE WHEN {text} = 'JFK' THEN '7' ELSE {text} END AS BIGINT)"));
            }
        }
        if traps.is_empty() { constant(Type::Int).to_owned() } else { self.dice.pick(&traps).clone() }
    }

    fn predicate(&mut self, columns: &[Column], depth: u32) -> String {
        let number = self.column(Type::Int, columns);
        let text = self.column(Type::Text, columns);
        if depth > 0 && self.dice.one_in(3) {
            let (one, other) = (self.predicate(columns, depth - 1), self.predicate(columns, depth - 1));
            return match self.dice.roll(3) {
                0 => format!("({one} AND {other})"),
                1 => format!("({one} OR {other})"),
                _ => format!("NOT ({one})"),
            };
        }
        match self.dice.roll(6) {
            0 => format!("{number} > {}", self.dice.roll(45)),
            1 => format!("{text} IS NOT NULL"),
            2 => format!("{text} <> 'rain'"),
            3 => format!("{text} LIKE '%e%'"),
            4 => {
                let other = self.column(Type::Int, columns);
                format!("{number} <= {other}")
            }
            _ => format!("{number} BETWEEN {} AND 60", self.dice.roll(40)),
        }
    }
}

/// `, a, b`: all columns but one. DataFusion does not bear an order that names a column twice.
fn others(one: &str, columns: &[Column]) -> String {
    columns.iter().filter(|column| column.text != one).map(|column| format!(", {}", column.text)).collect()
}

/// The columns of a SELECT, which are called c0, c1, ….
fn outputs(alias: &str, kinds: &[Type]) -> Vec<Column> {
    kinds
        .iter()
        .enumerate()
        .map(|(at, kind)| Column { text: format!("{alias}.c{at}"), kind: *kind })
        .collect()
}

fn constant(kind: Type) -> &'static str {
    match kind {
        Type::Int => "7",
        Type::Text => "'JFK'",
        Type::Time => "TIMESTAMP '2013-01-01T06:30:00Z'",
    }
}

fn columns_of(alias: &str, own: &[(&str, Type)]) -> Vec<Column> {
    own.iter().map(|(name, kind)| Column { text: format!("{alias}.{name}"), kind: *kind }).collect()
}
