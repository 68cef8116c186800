//! Tokens that were made up, changed or stolen: none lets a call in, and the server stays up.

use std::collections::BTreeSet;

use arrow_flight::flight_service_client::FlightServiceClient;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::callers::{bearing, by_jwt, by_tokens, status_action, token};
use super::fixture::{Running, empty_store};
use super::token_issuer::{TokenIssuer, claims, part, seconds, signed};
use crate::JwtKeys;

/// What was tried, and the `authorization` headers that it came with.
type Attempt = (String, Vec<Vec<u8>>);

fn one(what: &str, header: impl AsRef<[u8]>) -> Attempt {
    (what.to_owned(), vec![header.as_ref().to_vec()])
}

async fn try_it(client: &mut FlightServiceClient<Channel>, headers: &[Vec<u8>]) -> Result<(), Status> {
    let mut request = Request::new(status_action());
    for header in headers {
        let value = AsciiMetadataValue::try_from(header.as_slice()).unwrap();
        request.metadata_mut().append("authorization", value);
    }
    client.do_action(request).await.map(drop)
}

/// Headers that no scheme of tokens is meant by, around a token that counts.
fn headers(good: &str) -> Vec<Attempt> {
    let half = good.len() / 2;
    let mut attempts = vec![
        ("no header".to_owned(), vec![]),
        one("an empty header", ""),
        one("a space", " "),
        one("the scheme alone", "Bearer"),
        one("the scheme and a space", "Bearer "),
        one("the scheme and many spaces", "Bearer          "),
        one("the token without a scheme", good),
        one("another scheme", format!("Basic {good}")),
        one("basic", "Basic YWRhOnNlY3JldA=="),
        one("digest", format!("Digest username=\"ada\", response=\"{good}\"")),
        one("negotiate", format!("Negotiate {good}")),
        one("token as a scheme", format!("Token {good}")),
        one("a scheme that begins alike", format!("Bearers {good}")),
        one("a colon after the scheme", format!("Bearer: {good}")),
        one("no space after the scheme", format!("Bearer{good}")),
        one("a tab after the scheme", format!("Bearer\t{good}")),
        one("quoted", format!("Bearer \"{good}\"")),
        one("with a comma", format!("Bearer {good},")),
        one("two tokens in one", format!("Bearer {good} {good}")),
        one("two by a comma", format!("Bearer {good}, Bearer {good}")),
        one("two schemes", format!("Basic x Bearer {good}")),
        one("the scheme twice", format!("Bearer Bearer {good}")),
        one("a half", format!("Bearer {}", &good[..half])),
        one("the other half", format!("Bearer {}", &good[half..])),
        one("all but the last sign", format!("Bearer {}", &good[..good.len() - 1])),
        one("a space within", format!("Bearer {} {}", &good[..half], &good[half..])),
        one("more behind it", format!("Bearer {good}A")),
        one("more before it", format!("Bearer A{good}")),
        one("a NUL as text", format!("Bearer {good}%00")),
        one("percent-encoded", format!("Bearer %{:02x}{}", good.as_bytes()[0], &good[1..])),
        one("not ASCII", "Bearer tökén"),
        one("ASCII and a letter beyond", format!("Bearer {good}é")),
        one("not UTF-8", b"Bearer \xff\xfe\xfd"),
        one("the scheme in other letters", "Ｂｅａｒｅｒ x"),
        one("too long", format!("Bearer {}", "a".repeat(9_000))),
        one("dots", "Bearer .."),
        one("many dots", format!("Bearer {}", ".".repeat(1_000))),
        one("a parameter", format!("Bearer token={good}")),
        one("null", "Bearer null"),
        one("undefined", "Bearer undefined"),
        one("an asterisk", "Bearer *"),
        one("SQL", "Bearer ' OR '1'='1"),
        one("JSON", format!("Bearer {{\"token\":\"{good}\"}}")),
        one("a path", "Bearer ../../../tokens.toml"),
        (
            "two headers, both good".to_owned(),
            vec![format!("Bearer {good}").into_bytes(), format!("Bearer {good}").into_bytes()],
        ),
        ("two headers, one empty".to_owned(), vec![format!("Bearer {good}").into_bytes(), Vec::new()]),
        (
            "two headers, the second basic".to_owned(),
            vec![format!("Bearer {good}").into_bytes(), b"Basic x".to_vec()],
        ),
    ];
    // Each sign of it in turn, for another of the alphabet.
    for at in (0..good.len()).step_by(good.len().div_ceil(16)) {
        let mut changed = good.as_bytes().to_vec();
        changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
        attempts.push(one(&format!("sign {at} changed"), [b"Bearer ".as_slice(), &changed].concat()));
    }
    attempts
}

fn without(claim: &str) -> Value {
    let mut some = claims();
    some.as_object_mut().unwrap().remove(claim);
    some
}

fn with(claim: &str, value: impl Into<Value>) -> Value {
    let mut some = claims();
    some[claim] = value.into();
    some
}

/// Web tokens that are wrong in what they say or in how they are signed.
fn web_tokens(issuer: &TokenIssuer) -> Vec<Attempt> {
    let header = json!({ "alg": "ES256", "typ": "JWT", "kid": "ec" });
    let mut attempts = Vec::new();
    let mut attempt = |what: &str, token: String| attempts.push(one(what, format!("Bearer {token}")));
    for (what, claims) in [
        ("expired", with("exp", seconds(-120))),
        ("expired long ago", with("exp", 1)),
        ("expired before time began", with("exp", -1)),
        ("never expires", without("exp")),
        ("expires by word", with("exp", "never")),
        ("expires by null", with("exp", Value::Null)),
        ("expires in a text", with("exp", seconds(600).to_string())),
        ("expires in a list", with("exp", json!([seconds(600)]))),
        (
            "expires beyond numbers",
            serde_json::from_str(&claims().to_string().replace(&claims()["exp"].to_string(), "1e400"))
                .unwrap_or_else(|_| with("exp", "1e400")),
        ),
        ("not yet", with("nbf", seconds(600))),
        ("not yet, by word", with("nbf", "tomorrow")),
        ("another audience", with("aud", "somebody-else")),
        ("audiences without ours", with("aud", json!(["a", "b"]))),
        ("no audience", without("aud")),
        ("an empty audience", with("aud", "")),
        ("no audiences", with("aud", json!([]))),
        ("an audience that begins alike", with("aud", "lineament2")),
        ("an audience in capitals", with("aud", "LINEAMENT")),
        ("an audience that is a thing", with("aud", json!({ "lineament": true }))),
        ("another issuer", with("iss", "https://evil.example/")),
        ("no issuer", without("iss")),
        ("an issuer without its slash", with("iss", "https://issuer.example")),
        ("an issuer with more", with("iss", "https://issuer.example/.evil.example/")),
        ("nobody", without("sub")),
        ("an empty name", with("sub", "")),
        ("a blank name", with("sub", "   ")),
        ("a name of two lines", with("sub", "ada\nroot")),
        ("a number for a name", with("sub", 7)),
        ("a list of names", with("sub", json!(["ada"]))),
        ("a long name", with("sub", "a".repeat(257))),
    ] {
        attempt(what, issuer.signed(&header, &claims));
    }
    for (what, header) in [
        ("an unknown key", json!({ "alg": "ES256", "kid": "other" })),
        ("no key", json!({ "alg": "ES256" })),
        ("a key that is null", json!({ "alg": "ES256", "kid": null })),
        ("a key that is a number", json!({ "alg": "ES256", "kid": 1 })),
        ("an empty key", json!({ "alg": "ES256", "kid": "" })),
        ("a key that is a path", json!({ "alg": "ES256", "kid": "../../../../dev/null" })),
        ("a key that is SQL", json!({ "alg": "ES256", "kid": "ec' UNION SELECT 'x" })),
        ("the key of another algorithm", json!({ "alg": "ES256", "kid": "ed" })),
        ("the other way round", json!({ "alg": "EdDSA", "kid": "ec" })),
        ("an algorithm that its key is not for", json!({ "alg": "ES384", "kid": "ec" })),
        ("RSA with a curve's key", json!({ "alg": "RS256", "kid": "ec" })),
        ("an algorithm that is none", json!({ "alg": "ES512", "kid": "ec" })),
        ("no algorithm", json!({ "kid": "ec" })),
        ("a critical extension", json!({ "alg": "ES256", "kid": "ec", "crit": ["exp"] })),
        ("a critical list without members", json!({ "alg": "ES256", "kid": "ec", "crit": [] })),
    ] {
        attempt(what, issuer.signed(&header, &claims()));
    }
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let message = format!(
            "{}.{}",
            part(json!({ "alg": none, "kid": "ec" }).to_string()),
            part(claims().to_string())
        );
        attempt(&format!("the algorithm `{none}`, unsigned"), format!("{message}."));
        attempt(&format!("the algorithm `{none}`, signed"), format!("{message}.{}", part([0; 64])));
    }

    // The public key as a shared secret, in each form that somebody might read it from.
    let der = |pem: &str| {
        use base64::Engine;
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        base64::engine::general_purpose::STANDARD.decode(body).unwrap()
    };
    let set = issuer.set();
    for (id, pem) in [("ec", &issuer.elliptic_pem), ("ed", &issuer.edwards_pem)] {
        let key = &set["keys"].as_array().unwrap().iter().find(|key| key["kid"] == id).unwrap();
        let secrets = [
            pem.as_bytes().to_vec(),
            pem.trim().as_bytes().to_vec(),
            der(pem),
            key.to_string().into_bytes(),
            key["x"].as_str().unwrap().as_bytes().to_vec(),
            Vec::new(),
        ];
        for (number, secret) in secrets.iter().enumerate() {
            let header = json!({ "alg": "HS256", "kid": id }).to_string();
            let key = EncodingKey::from_secret(secret);
            attempt(
                &format!("the public key {id} as a secret, {number}"),
                signed(&header, &claims().to_string(), &key, Algorithm::HS256),
            );
        }
    }

    // Signed by somebody else, who sends the key along.
    let thief = TokenIssuer::new();
    let public = thief.set()["keys"][0].clone();
    for (what, header) in [
        ("of another's key", json!({ "alg": "ES256", "kid": "ec" })),
        ("with its own key", json!({ "alg": "ES256", "kid": "ec", "jwk": public })),
        (
            "with an address of keys",
            json!({ "alg": "ES256", "kid": "ec", "jku": "https://evil.example/keys" }),
        ),
        (
            "with an address of certificates",
            json!({ "alg": "ES256", "kid": "ec", "x5u": "https://evil.example/" }),
        ),
        ("with a certificate", json!({ "alg": "ES256", "kid": "ec", "x5c": ["MIIB"] })),
    ] {
        attempt(what, thief.signed(&header, &claims()));
    }

    // Signatures and parts.
    let good = issuer.token();
    let parts: Vec<&str> = good.split('.').collect();
    let [head, body, signature] = parts[..] else { panic!("three parts") };
    let other = part(with("sub", "root").to_string());
    for (what, token) in [
        ("another's claims under a good signature", format!("{head}.{other}.{signature}")),
        ("no signature", format!("{head}.{body}.")),
        ("two parts", format!("{head}.{body}")),
        ("four parts", format!("{good}.x")),
        ("five parts", format!("{good}.x.y")),
        ("no header", format!(".{body}.{signature}")),
        ("no claims", format!("{head}..{signature}")),
        ("a signature of noughts", format!("{head}.{body}.{}", part([0; 64]))),
        ("a signature of ones", format!("{head}.{body}.{}", part([0xff; 64]))),
        ("a short signature", format!("{head}.{body}.{}", &signature[..20])),
        ("a long signature", format!("{head}.{body}.{signature}{signature}")),
        ("a padded signature", format!("{head}.{body}.{signature}==")),
        ("header and claims exchanged", format!("{body}.{head}.{signature}")),
        ("claims that are no JSON", signed_with(issuer, "{")),
        ("claims that are a list", signed_with(issuer, "[]")),
        ("claims that are null", signed_with(issuer, "null")),
        ("claims nested deeply", signed_with(issuer, &"[".repeat(4_000))),
        (
            "an issuer twice",
            signed_with(
                issuer,
                &claims().to_string().replacen('{', "{\"iss\":\"https://evil.example/\",", 1),
            ),
        ),
        ("an expiry twice", signed_with(issuer, &claims().to_string().replacen('{', "{\"exp\":1,", 1))),
        ("a header that is no JSON", format!("{}.{body}.{signature}", part("{"))),
        ("a header that is a list", format!("{}.{body}.{signature}", part("[]"))),
    ] {
        attempt(what, token);
    }
    attempts
}

fn signed_with(issuer: &TokenIssuer, claims: &str) -> String {
    let header = json!({ "alg": "ES256", "kid": "ec" }).to_string();
    signed(&header, claims, &issuer.elliptic, Algorithm::ES256)
}

/// Tries all, and says what was not refused as it should be.
async fn all_refused(server: &mut Running, good: &str, attempts: &[Attempt]) {
    let different: BTreeSet<_> = attempts.iter().map(|(_, headers)| headers).collect();
    assert!(different.len() >= attempts.len() - 2, "attempts that are the same");
    let mut wrong = Vec::new();
    for (what, headers) in attempts {
        match try_it(&mut server.client, headers).await {
            Ok(()) => wrong.push(format!("{what}: let in")),
            Err(status) if status.code() != Code::Unauthenticated => {
                wrong.push(format!("{what}: {status:?}"))
            }
            Err(status) => {
                let said = status.message();
                // What is refused is said, and the token is not repeated.
                let repeated = headers.iter().any(|header| {
                    header.len() > 40
                        && said.contains(String::from_utf8_lossy(&header[header.len() - 20..]).as_ref())
                });
                if said.len() < 20 || repeated {
                    wrong.push(format!("{what}: says `{said}`"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let mut known = bearing(server.address, good).await;
    known.do_action(status_action()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_static_token_but_a_given_one_lets_a_call_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.toml");
    let good = token(&file, "ada");
    let mut attempts = headers(&good);
    let elsewhere = tempfile::tempdir().unwrap();
    attempts.push(one(
        "the token of another server's file",
        format!("Bearer {}", token(&elsewhere.path().join("tokens.toml"), "ada")),
    ));
    let text = std::fs::read_to_string(&file).unwrap();
    let digest = text.lines().find_map(|line| line.strip_prefix("sha256 = ")).unwrap().trim_matches('"');
    attempts.push(one("the digest in the file", format!("Bearer {digest}")));
    attempts.push(one("the digest as a token", format!("Bearer lmt_{digest}")));
    attempts.push(one("in capitals", format!("Bearer {}", good.to_uppercase())));
    attempts.push(one("a web token", format!("Bearer {}", TokenIssuer::new().token())));
    assert!(attempts.len() >= 65, "{}", attempts.len());
    let mut server = Running::over(empty_store().await, by_tokens(&folder)).await;
    // The scheme's case and spaces around the token mean nothing (RFC 9110).
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let header = format!("{scheme}  {good} ").into_bytes();
        try_it(&mut server.client, &[header]).await.unwrap();
    }
    all_refused(&mut server, &good, &attempts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_web_token_but_a_right_one_lets_a_call_in() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = TokenIssuer::new();
    let set = folder.path().join("keys.json");
    std::fs::write(&set, issuer.set().to_string()).unwrap();
    let good = issuer.token();
    let mut attempts = web_tokens(&issuer);
    assert!(attempts.len() >= 80, "{}", attempts.len());
    // In a web token's last sign some bits mean nothing, so that it is not changed here.
    attempts.extend(headers(&good));
    attempts.push(one("a static token", format!("Bearer {}", token(&folder.path().join("t.toml"), "ada"))));
    assert!(attempts.len() >= 150, "{}", attempts.len());
    let mut server = Running::over(empty_store().await, by_jwt(JwtKeys::File(set))).await;
    all_refused(&mut server, &good, &attempts).await;
}
