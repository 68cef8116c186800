use std::collections::BTreeMap;

use cedar_policy::{Authorizer, Policy, PolicySet};
use feature::definition::{Definitions, FeatureView, parse_files};
use feature::policy::{Action, Asker, Decision, Mask, Policies, PolicyFile, Purpose, Resource, RowFilter};
use proptest::prelude::*;

use super::{Compiled, compile};
use crate::cases;
use crate::entities::{Asked, Types};

const WEATHER: &str = r#"
kind = "feature_view"
name = "weather"
entity = "airport"
owner = "meteo"
[time]
valid_at = "time_hour"
known_at = "arrival"
[[features]]
name = "temp"
type = "float64"
[[features]]
name = "station"
type = "string"
tags = ["pii"]
"#;

fn weather() -> FeatureView {
    let entity = "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n";
    let files = [("airport.toml", entity), ("weather.toml", WEATHER)];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let Definitions { mut views, .. } = parse_files(files.to_vec()).unwrap();
    views.remove(0).definition
}

fn file(text: &str) -> PolicyFile {
    PolicyFile { name: "base.cedar".to_owned(), text: text.to_owned() }
}

fn policies(text: &str) -> Compiled {
    compile(&[file(text)]).unwrap()
}

fn errors(text: &str) -> String {
    compile(&[file(text)]).unwrap_err().to_string()
}

fn asker(role: &str) -> Asker {
    Asker { principal: "ann".to_owned(), roles: vec![role.to_owned()], ..Asker::default() }
}

fn read(policies: &Compiled, asker: &Asker, feature: &str) -> Decision {
    let view = weather();
    let feature = view.features.iter().find(|known| known.name.as_str() == feature).unwrap();
    policies.decide(asker, Action::Read, Resource::Feature(&view, feature))
}

#[test]
fn the_schema_is_one_and_strict() {
    crate::schema::schema().unwrap();
}

#[test]
fn what_nothing_permits_is_denied_and_what_is_forbidden_stays_so() {
    let none = read(&policies(""), &asker("analyst"), "temp");
    assert!(!none.allowed && none.policies.is_empty());
    assert_eq!(none.denied_by(), "no policy permits it");
    let set = policies(
        "permit(principal, action, resource);\n\
         @id(\"no-stations\") forbid(principal, action == Action::\"read\", resource)\n\
         when { resource.tags.contains(\"pii\") } unless { principal in Role::\"privacy\" };",
    );
    assert!(read(&set, &asker("analyst"), "temp").allowed);
    let denied = read(&set, &asker("analyst"), "station");
    assert_eq!((denied.allowed, denied.policies.as_slice()), (false, ["no-stations".to_owned()].as_slice()));
    assert!(denied.denied_by().contains("no-stations"));
    assert!(read(&set, &asker("privacy"), "station").allowed);
}

#[test]
fn the_strongest_mask_wins_and_all_filters_hold() {
    let set = policies(
        "permit(principal, action, resource);\n\
         @mask(\"round:10\") @rows(\"origin = 'JFK'\") permit(principal in Role::\"a\", action, resource);\n\
         @mask(\"hash\") @rows(\"origin <> 'LGA'\") permit(principal in Role::\"b\", action, resource);",
    );
    let both = Asker { roles: vec!["a".to_owned(), "b".to_owned()], ..asker("a") };
    let decision = read(&set, &both, "temp");
    assert_eq!(decision.mask, Some(Mask::Hash));
    let rows = [("origin <> 'LGA'", "base#3"), ("origin = 'JFK'", "base#2")];
    let rows = rows.map(|(sql, policy)| RowFilter { sql: sql.to_owned(), policy: policy.to_owned() });
    assert_eq!(decision.rows, rows);
    assert_eq!(read(&set, &asker("a"), "temp").mask, Some(Mask::Round(10.0)));
    assert_eq!(read(&set, &asker("c"), "temp").mask, None);
}

#[test]
fn purposes_groups_and_claims_count() {
    let set = policies(
        "permit(principal, action, resource) when { context.purpose == Purpose::\"train\" };\n\
         permit(principal in Group::\"crew\", action, resource);\n\
         permit(principal, action, resource) when {\n\
           principal.hasTag(\"site\") && principal.getTag(\"site\").contains(\"nyc\") };",
    );
    let with = |claim: &str, value: &str| {
        let claims = BTreeMap::from([(claim.to_owned(), vec![value.to_owned()])]);
        Asker { claims, ..asker("x") }
    };
    assert!(!read(&set, &asker("x"), "temp").allowed);
    assert!(read(&set, &Asker { purpose: Purpose::Train, ..asker("x") }, "temp").allowed);
    assert!(read(&set, &with("groups", "crew"), "temp").allowed);
    assert!(read(&set, &with("site", "nyc"), "temp").allowed);
    assert!(!read(&set, &with("site", "bos"), "temp").allowed);
}

#[test]
fn what_cannot_be_decided_is_denied() {
    // 2^63 is no number of Cedar's: the policy fails when it is evaluated.
    let set = policies(
        "permit(principal, action, resource);\n\
         @mask(\"null\") permit(principal, action, resource)\n\
         when { principal.name == \"ann\" && 9223372036854775807 + 1 > 0 };",
    );
    let decision = read(&set, &asker("x"), "temp");
    assert!(!decision.allowed && decision.mask.is_none());
    assert_eq!(decision.errors.len(), 1, "{decision:?}");
}

#[test]
fn errors_say_where_and_what_to_do() {
    for (text, at, told) in [
        ("permit(principal, action, resource)", "base.cedar:1:36:", "unexpected end of input"),
        (
            "permit(principal, action, resource)\n  when { resource.tag.contains(\"pii\") };",
            "base.cedar:2:10:",
            "did you mean `tags`",
        ),
        (
            "permit(principal, action == Action::\"red\", resource);",
            "base.cedar:1:",
            "did you mean `Action::\"read\"`",
        ),
        (
            "permit(principal, action, resource) when { context.purpose == Purpose::\"trian\" };",
            "base.cedar:1:",
            "trian",
        ),
        ("@msak(\"null\")\npermit(principal, action, resource);", "base.cedar:1:1:", "did you mean @mask"),
        ("@mask(\"nul\")\npermit(principal, action, resource);", "base.cedar:1:1:", "write null, hash"),
        (
            "\n  @mask(\"null\")\nforbid(principal, action, resource);",
            "base.cedar:2:3:",
            "this policy forbids",
        ),
        ("@rows(\"\")\npermit(principal, action, resource);", "base.cedar:1:1:", "a condition in SQL"),
        ("permit(principal == ?principal, action, resource);", "base.cedar:1:", "templates"),
    ] {
        let error = errors(text);
        assert!(error.starts_with(at) && error.contains(told), "{text}\n{error}");
    }
    let twice = ["a.cedar", "b.cedar"].map(|name| PolicyFile {
        name: name.to_owned(),
        text: "@id(\"all\") permit(principal, action, resource);".to_owned(),
    });
    let error = compile(&twice).unwrap_err().to_string();
    assert!(error.starts_with("b.cedar:1:1:") && error.contains("another @id"), "{error}");
}

#[test]
fn cases_pass_or_say_what_was_decided() {
    let set = policies(
        "permit(principal, action, resource);\n\
         @id(\"coarse\") @mask(\"round:5\") @rows(\"origin = 'JFK'\")\n\
         permit(principal in Role::\"guest\", action == Action::\"read\", resource);",
    );
    let text = r#"
[[case]]
name = "guests see degrees by fives"
roles = ["guest"]
feature = "weather.temp"
expect = "mask round:5; rows origin = 'JFK'"
by = "coarse"
[[case]]
feature = "weather.temp"
expect = "deny"
[[case]]
roles = ["guest"]
feature = "weather.station"
expect = "mask null; rows origin = 'JFK'"
[[case]]
action = "ingest"
feature = "weather"
expect = "allow"
"#;
    let views = [weather()];
    let outcomes: Vec<_> = cases::parse("cases.toml", text)
        .unwrap()
        .iter()
        .map(|case| cases::decide(&set, case, &views).unwrap())
        .collect();
    let passed: Vec<bool> = outcomes.iter().map(|outcome| outcome.passed).collect();
    assert_eq!(passed, [true, false, true, true], "{outcomes:?}");
    assert_eq!(outcomes[1].decided, "allow");
    let typo = text.replace("weather.temp", "weather.tmep");
    let case = &cases::parse("cases.toml", &typo).unwrap()[0];
    assert!(cases::decide(&set, case, &views).unwrap_err().contains("did you mean `temp`"));
    assert!(cases::parse("cases.toml", "").unwrap_err().contains("no [[case]]"));
    let unknown = text.replace("\"ingest\"", "\"ingets\"");
    assert!(cases::parse("cases.toml", &unknown).unwrap_err().contains("did you mean `ingest`"));
}

/// Of these a few are in force: scopes of every form, and conditions that name every attribute.
const SCOPES: [&str; 8] = [
    "principal, action",
    "principal in Role::\"a\", action",
    "principal in Group::\"b\", action == Action::\"read\"",
    "principal == User::\"ann\", action",
    "principal is User, action in [Action::\"read\", Action::\"apply\"]",
    "principal is User in Role::\"b\", action == Action::\"ingest\"",
    "principal == User::\"bob\", action in [Action::\"read\"]",
    "principal in Role::\"c\", action == Action::\"apply\"",
];
const CONDITIONS: [&str; 8] = [
    "",
    "when { resource.tags.contains(\"pii\") }",
    "unless { resource has owner && resource.owner == \"meteo\" }",
    "when { principal.name == \"ann\" }",
    "when { principal.hasTag(\"groups\") && principal.getTag(\"groups\").contains(\"b\") }",
    "when { resource[\"n\\u{61}me\"] like \"*t*\" && resource.project == \"default\" }",
    "when { resource is Feature && (resource has unit || resource.type == \"string\" || resource.view == \"x\") }",
    "when { resource is View && resource.entity == \"airport\" && context.purpose == Purpose::\"train\" }",
];

proptest! {
    /// Most of the policies and attributes are left out where they cannot matter, and so it does not matter that they are.
    #[test]
    fn what_is_left_out_decides_nothing(
        chosen in proptest::collection::vec((any::<bool>(), 0..SCOPES.len(), 0..CONDITIONS.len()), 0..6),
        roles in proptest::sample::subsequence(vec!["a", "b", "c"], 0..3),
        bob in any::<bool>(),
        groups in proptest::option::of(proptest::sample::subsequence(vec!["a", "b"], 0..2)),
        action in proptest::sample::select(vec![Action::Read, Action::Apply, Action::Ingest]),
        of_view in any::<bool>(),
    ) {
        let one = |permits: &bool, scope: &usize, condition: &usize| {
            let effect = if *permits { "permit" } else { "forbid" };
            format!("{effect}({}, resource) {};", SCOPES[*scope], CONDITIONS[*condition])
        };
        let texts: Vec<String> =
            chosen.iter().map(|(permits, scope, condition)| one(permits, scope, condition)).collect();
        // The conditions stand as they are: what a schema says of them is another matter.
        let parsed = |(place, text): (usize, &String)| {
            Policy::parse(Some(cedar_policy::PolicyId::new(format!("base#{}", place + 1))), text).unwrap()
        };
        let all: Vec<Policy> = texts.iter().enumerate().map(parsed).collect();
        let every: Vec<Policy> =
            CONDITIONS.iter().map(|condition| format!("permit(principal, action, resource) {condition};"))
                .map(|text| Policy::parse(None, text).unwrap()).collect();
        let view = weather();
        let resource = || if of_view { Resource::View(&view) } else { Resource::Feature(&view, &view.features[1]) };
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let asker = Asker {
            principal: if bob { "bob" } else { "ann" }.to_owned(),
            roles: owned(&roles),
            claims: groups.iter().map(|groups| ("groups".to_owned(), owned(groups))).collect(),
            ..Asker::default()
        };
        let Asked { request, entities, .. } =
            Types::new(every.iter()).unwrap().request(&asker, action, resource()).unwrap();
        let whole = PolicySet::from_policies(all.iter().cloned()).unwrap();
        let expected = Authorizer::new().is_authorized(&request, &whole, &entities);
        let mut reasons: Vec<String> = expected.diagnostics().reason().map(ToString::to_string).collect();
        reasons.sort();
        let written = all.into_iter().map(|policy| {
            let written = crate::source::Written { policy, mask: None, rows: None, approval: false };
            (written.policy.id().to_string(), written)
        });
        let compiled = Compiled::new(written.collect()).unwrap();
        // The second time the slice is there.
        for _ in 0..2 {
            let decision = compiled.decide(&asker, action, resource());
            prop_assert_eq!(decision.allowed, expected.decision() == cedar_policy::Decision::Allow && decision.errors.is_empty());
            prop_assert_eq!(&decision.policies, &reasons);
            prop_assert_eq!(decision.errors.len(), expected.diagnostics().errors().count());
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = compile(&[file(&text)]);
    }

    #[test]
    fn no_name_makes_it_fail(principal in "\\PC{0,40}", role in "\\PC{0,40}") {
        let set = policies("permit(principal, action, resource);");
        let decision = read(&set, &Asker { principal, roles: vec![role], ..Asker::default() }, "temp");
        prop_assert!(decision.allowed);
    }
}
