//! Who may call: tokens, TLS, and what the log says of callers.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, Criteria, Empty, HandshakeRequest, Ticket};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;
use tempfile::TempDir;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic::{Code, Request, Status};

use super::fixture::{Running, command, empty_store, options, path, refused, upload, weather};
use super::token_issuer::{AUDIENCE, ISSUER, TokenIssuer, claims, seconds};
use crate::{
    AccessOptions, Authentication, JwtKeys, JwtOptions, NewToken, ServeOptions, Server, TlsFiles,
    create_token,
};

/// A client whose calls carry a token.
pub type Bearing = FlightServiceClient<
    InterceptedService<Channel, Box<dyn FnMut(Request<()>) -> Result<Request<()>, Status> + Send>>,
>;

pub async fn bearing(address: SocketAddr, token: &str) -> Bearing {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    with_token(channel, token)
}

fn with_token(channel: Channel, token: &str) -> Bearing {
    let header: AsciiMetadataValue = format!("Bearer {token}").parse().unwrap();
    FlightServiceClient::with_interceptor(
        channel,
        Box::new(move |mut request: Request<()>| {
            request.metadata_mut().insert("authorization", header.clone());
            Ok(request)
        }),
    )
}

pub fn token(file: &Path, principal: &str) -> String {
    let wanted = NewToken { principal: principal.to_owned(), expires: None, roles: Vec::new() };
    create_token(file, &wanted).unwrap()
}

fn by(authentication: Authentication) -> ServeOptions {
    let access = AccessOptions { authentication, ..AccessOptions::default() };
    ServeOptions { access, ..options("127.0.0.1:0") }
}

pub fn by_tokens(folder: &TempDir) -> ServeOptions {
    by(Authentication::Tokens(folder.path().join("tokens.toml")))
}

pub fn by_jwt(keys: JwtKeys) -> ServeOptions {
    by(Authentication::Jwt(JwtOptions {
        keys,
        issuer: ISSUER.to_owned(),
        audience: vec![AUDIENCE.to_owned(), "other".to_owned()],
        principal_claim: "sub".to_owned(),
        roles_claim: "roles".to_owned(),
        fetch_every: Duration::ZERO,
    }))
}

pub fn status_action() -> Action {
    Action::new("lineament.status", "{}")
}

/// Every method of Flight, asked without a token.
async fn every_method(
    client: &mut FlightServiceClient<Channel>,
    metadata: &MetadataMap,
) -> Vec<(&'static str, Result<(), Status>)> {
    fn with<T>(message: T, metadata: &MetadataMap) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = metadata.clone();
        request
    }
    let rows = || upload(path("weather"), vec![weather(1)]);
    vec![
        ("Handshake", {
            let messages = futures::stream::iter([HandshakeRequest::default()]);
            client.handshake(with(messages, metadata)).await.map(drop)
        }),
        ("ListFlights", client.list_flights(with(Criteria::default(), metadata)).await.map(drop)),
        ("GetFlightInfo", client.get_flight_info(with(command("SELECT 1"), metadata)).await.map(drop)),
        ("PollFlightInfo", client.poll_flight_info(with(command("SELECT 1"), metadata)).await.map(drop)),
        ("GetSchema", client.get_schema(with(command("SELECT 1"), metadata)).await.map(drop)),
        ("DoGet", client.do_get(with(Ticket::new(r#"{"sql": "SELECT 1"}"#), metadata)).await.map(drop)),
        ("DoPut", client.do_put(with(rows(), metadata)).await.map(drop)),
        ("DoExchange", client.do_exchange(with(rows(), metadata)).await.map(drop)),
        ("DoAction", client.do_action(with(status_action(), metadata)).await.map(drop)),
        (
            "DoAction",
            client.do_action(with(Action::new("CreatePreparedStatement", ""), metadata)).await.map(drop),
        ),
        ("ListActions", client.list_actions(with(Empty {}, metadata)).await.map(drop)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_needs_a_token() {
    let folder = tempfile::tempdir().unwrap();
    token(&folder.path().join("tokens.toml"), "ada");
    let mut server = Running::over(empty_store().await, by_tokens(&folder)).await;
    for (method, answer) in every_method(&mut server.client, &MetadataMap::new()).await {
        let status = answer.err().unwrap_or_else(|| panic!("{method} needs no token"));
        assert_eq!(status.code(), Code::Unauthenticated, "{method}: {status:?}");
        assert!(status.message().contains("LINEAMENT_TOKEN"), "{method}: {status:?}");
    }
    assert_eq!(server.serving.catalog().refresh().await.unwrap().head.sequence.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_who_called() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.toml");
    let (grace, bob) = (token(&file, "grace"), token(&file, "bob"));
    let open = Running::with_weather().await;
    let server = Running::over(open.serving.clone(), by_tokens(&folder)).await;
    let mut grace = bearing(server.address, &grace).await;
    let mut bob = bearing(server.address, &bob).await;

    let before = open.serving.catalog().refresh().await.unwrap().head.sequence;
    grace.do_put(upload(path("weather"), vec![super::fixture::weather_from(20, 1)])).await.unwrap();
    let features = json!({ "historical_features": { "features": ["weather.temp"] } }).to_string();
    let spine = weather(1).project(&[0, 1]).unwrap();
    let answer = bob.do_exchange(upload(command(&features), vec![spine])).await.unwrap().into_inner();
    super::fixture::read(answer).await.unwrap();
    let rows = grace.do_get(Ticket::new(r#"{"sql": "SELECT temp FROM weather"}"#)).await.unwrap();
    super::fixture::read(rows.into_inner()).await.unwrap();
    server.begin_to_stop().await.unwrap().unwrap();

    let state = open.serving.catalog().refresh().await.unwrap();
    let principals: Vec<_> = state
        .log()
        .iter()
        .filter(|line| line.by.sequence > before)
        .map(|line| line.by.principal.clone())
        .collect();
    assert!(principals.starts_with(&["grace".to_owned(), "bob".to_owned()]), "{principals:?}");
    // The read goes to the log by the server; its own line says who read.
    let mut open = open;
    let reads = open.sql("SELECT principal FROM lineament.reads").await.unwrap();
    let reads = arrow::util::pretty::pretty_format_batches(&[reads]).unwrap().to_string();
    assert!(reads.contains("grace"), "{reads}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_come_and_go_while_the_server_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.toml");
    let ada = token(&file, "ada");
    let server = Running::over(empty_store().await, by_tokens(&folder)).await;
    let mut ada = bearing(server.address, &ada).await;
    ada.do_action(status_action()).await.unwrap();
    let before = std::fs::read_to_string(&file).unwrap();
    let bob = token(&file, "bob");
    let mut bob = bearing(server.address, &bob).await;
    eventually(async || bob.do_action(status_action()).await.is_ok()).await;
    // What cannot be read changes nothing.
    std::fs::write(&file, "[[tokens").unwrap();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    bob.do_action(status_action()).await.unwrap();
    std::fs::write(&file, before).unwrap();
    eventually(async || bob.do_action(status_action()).await.is_err()).await;
    refused(bob.do_action(status_action()).await, Code::Unauthenticated, &["none that this server knows"]);
    ada.do_action(status_action()).await.unwrap();
}

async fn eventually(mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..100 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within five seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_an_identity_provider_count() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = TokenIssuer::new();
    let set = folder.path().join("keys.json");
    std::fs::write(&set, issuer.set().to_string()).unwrap();
    let server = Running::over(empty_store().await, by_jwt(JwtKeys::File(set))).await;
    let edwards = json!({ "alg": "EdDSA", "kid": "ed" });
    let mut several = claims();
    several["aud"] = json!(["elsewhere", AUDIENCE]);
    let mut late = claims();
    (late["exp"], late["nbf"]) = (json!(seconds(-30)), json!(seconds(30)));
    for good in [
        issuer.token(),
        issuer.signed(&edwards, &claims()),
        issuer.signed(&edwards, &several),
        // Within the leeway of a minute.
        issuer.signed(&edwards, &late),
    ] {
        bearing(server.address, &good).await.do_action(status_action()).await.unwrap();
    }

    for (pem, header) in [
        (&issuer.elliptic_pem, json!({ "alg": "ES256" })),
        (&issuer.edwards_pem, json!({ "alg": "EdDSA", "kid": "any" })),
    ] {
        let file = folder.path().join("key.pem");
        std::fs::write(&file, pem).unwrap();
        let server = Running::over(empty_store().await, by_jwt(JwtKeys::Pem(file))).await;
        let token = issuer.signed(&header, &claims());
        bearing(server.address, &token).await.do_action(status_action()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_fetched_again_where_one_is_unknown() {
    use std::sync::{Arc, Mutex};
    let (old, new) = (TokenIssuer::new(), TokenIssuer::new());
    let mut renamed = new.set();
    renamed["keys"][0]["kid"] = json!("next");
    let given = Arc::new(Mutex::new(old.set().to_string()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/keys", listener.local_addr().unwrap());
    let answers = given.clone();
    let app = axum::Router::new().route(
        "/keys",
        axum::routing::get(move || {
            let answer = answers.lock().unwrap().clone();
            async move { answer }
        }),
    );
    tokio::spawn(async move { axum::serve(listener, app).await });

    let server = Running::over(empty_store().await, by_jwt(JwtKeys::Address(address.clone()))).await;
    let mut client = bearing(server.address, &old.token()).await;
    client.do_action(status_action()).await.unwrap();
    let next = new.signed(&json!({ "alg": "ES256", "kid": "next" }), &claims());
    let mut next = bearing(server.address, &next).await;
    refused(next.do_action(status_action()).await, Code::Unauthenticated, &["does not publish"]);
    *given.lock().unwrap() = renamed.to_string();
    next.do_action(status_action()).await.unwrap();
    refused(client.do_action(status_action()).await, Code::Unauthenticated, &["does not publish"]);
    // A provider that fails takes nothing away.
    *given.lock().unwrap() = "{}".to_owned();
    refused(client.do_action(status_action()).await, Code::Unauthenticated, &["does not publish"]);
    next.do_action(status_action()).await.unwrap();

    // Not more often than is said, however many ask.
    let Authentication::Jwt(options) = by_jwt(JwtKeys::Address(address)).access.authentication else {
        panic!()
    };
    *given.lock().unwrap() = old.set().to_string();
    let seldom = JwtOptions { fetch_every: Duration::from_secs(3_600), ..options };
    let server = Running::over(empty_store().await, by(Authentication::Jwt(seldom))).await;
    *given.lock().unwrap() = renamed.to_string();
    let mut next =
        bearing(server.address, &new.signed(&json!({ "alg": "ES256", "kid": "next" }), &claims())).await;
    refused(next.do_action(status_action()).await, Code::Unauthenticated, &["does not publish"]);
}

pub fn tls_files(folder: &TempDir) -> (TlsFiles, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let files = TlsFiles { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    std::fs::write(&files.certificate, cert.pem()).unwrap();
    std::fs::write(&files.key, signing_key.serialize_pem()).unwrap();
    (files, cert.pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn other_addresses_are_served_with_tls_and_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let ada = token(&folder.path().join("tokens.toml"), "ada");
    let (tls, certificate) = tls_files(&folder);
    let both = AccessOptions { tls: Some(tls.clone()), ..by_tokens(&folder).access };
    let anywhere = |access: AccessOptions| ServeOptions { access, ..options("0.0.0.0:0") };
    // One without the other is not enough.
    for (access, missing) in [
        (
            AccessOptions { tls: Some(tls.clone()), ..AccessOptions::default() },
            "give --tokens, --jwt-jwks or --jwt-key",
        ),
        (by_tokens(&folder).access, "give --tls-cert and --tls-key (docs"),
    ] {
        let refused = Server::bind(empty_store().await, anywhere(access)).await.err().unwrap().to_string();
        assert!(refused.contains(missing), "{refused}");
    }

    let server = Server::bind(empty_store().await, anywhere(both)).await.unwrap();
    assert!(server.url().starts_with("grpc+tls://0.0.0.0:"), "{}", server.url());
    let port = server.address().port();
    let running = tokio::spawn(server.run(std::future::pending()));
    let connect = async |certificate: &str| {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate));
        Channel::from_shared(format!("https://localhost:{port}"))
            .unwrap()
            .tls_config(tls)
            .unwrap()
            .connect()
            .await
    };
    let channel = connect(&certificate).await.unwrap();
    with_token(channel.clone(), &ada).do_action(status_action()).await.unwrap();
    let without = FlightServiceClient::new(channel).do_action(status_action()).await;
    refused(without, Code::Unauthenticated, &["needs a token"]);
    let (_, stranger) = tls_files(&tempfile::tempdir().unwrap());
    assert!(connect(&stranger).await.is_err(), "another certificate");
    let plain = Channel::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect().await;
    if let Ok(plain) = plain {
        assert!(with_token(plain, &ada).do_action(status_action()).await.is_err(), "unencrypted");
    }
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_keeps_nobody_out_and_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let ada = token(&folder.path().join("tokens.toml"), "ada");
    let (tls, certificate) = tls_files(&folder);
    let access = AccessOptions {
        tls: Some(tls),
        handshake_timeout: Duration::from_millis(500),
        ..by_tokens(&folder).access
    };
    let server =
        Server::bind(empty_store().await, ServeOptions { access, ..options("127.0.0.1:0") }).await.unwrap();
    let address = server.address();
    let running = tokio::spawn(server.run(std::future::pending()));
    let silent: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate));
    let channel = Channel::from_shared(format!("https://localhost:{}", address.port())).unwrap();
    let channel = channel.tls_config(tls).unwrap().connect().await.unwrap();
    with_token(channel, &ada).do_action(status_action()).await.unwrap();
    let left = tokio::task::spawn_blocking(move || {
        silent.into_iter().all(|mut connection| {
            connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            // Closed, with or without a word.
            connection
                .read(&mut [0; 1])
                .map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionReset, |read| read == 0)
        })
    });
    assert!(left.await.unwrap(), "a silent connection is still open");
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_said_before_the_server_listens() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, _) = tls_files(&folder);
    let elsewhere = tempfile::tempdir().unwrap();
    let (other, _) = tls_files(&elsewhere);
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let with_tls = |certificate: &Path, key: &Path| {
        let tls = TlsFiles { certificate: certificate.to_owned(), key: key.to_owned() };
        ServeOptions {
            access: AccessOptions { tls: Some(tls), ..AccessOptions::default() },
            ..options("127.0.0.1:0")
        }
    };
    let (rubbish, nothing) = (file("rubbish", "rubbish"), folder.path().join("nothing"));
    let shared = json!({ "keys": [{ "kty": "oct", "kid": "x", "k": "c2VjcmV0", "alg": "HS256" }] });
    let nameless = json!({ "keys": [TokenIssuer::new().set()["keys"][0].as_object().unwrap().iter()
        .filter(|(name, _)| *name != "kid").map(|(name, value)| (name.clone(), value.clone())).collect::<serde_json::Map<_, _>>()] });
    let cases = [
        (with_tls(&nothing, &tls.key), vec!["--tls-cert", "nothing"]),
        (with_tls(&rubbish, &tls.key), vec!["--tls-cert", "no CERTIFICATE"]),
        (with_tls(&tls.key, &tls.key), vec!["--tls-cert", "no CERTIFICATE"]),
        (with_tls(&tls.certificate, &tls.certificate), vec!["--tls-key", "no PRIVATE KEY"]),
        (with_tls(&tls.certificate, &other.key), vec!["cannot be used together", "--tls-key"]),
        (by(Authentication::Tokens(nothing.clone())), vec!["--tokens", "nothing"]),
        (by(Authentication::Tokens(rubbish.clone())), vec!["--tokens", "rubbish"]),
        (by_jwt(JwtKeys::Pem(nothing.clone())), vec!["nothing"]),
        (by_jwt(JwtKeys::Pem(rubbish.clone())), vec!["not a public key in PEM"]),
        (by_jwt(JwtKeys::Pem(tls.key.clone())), vec!["not a public key in PEM"]),
        (by_jwt(JwtKeys::File(rubbish)), vec!["not a set of keys"]),
        (by_jwt(JwtKeys::File(file("shared", &shared.to_string()))), vec!["none is a public one"]),
        (by_jwt(JwtKeys::File(file("nameless", &nameless.to_string()))), vec!["none is a public one"]),
        (by_jwt(JwtKeys::File(file("empty", r#"{"keys": []}"#))), vec!["of its 0 keys"]),
        (by_jwt(JwtKeys::Address("http://issuer.example/keys".to_owned())), vec!["https:// alone"]),
        (by_jwt(JwtKeys::Address("ftp://issuer.example/keys".to_owned())), vec!["https:// alone"]),
        (by_jwt(JwtKeys::Address("http://127.0.0.1:1/keys".to_owned())), vec!["cannot be had"]),
    ];
    for (options, parts) in cases {
        let shown = format!("{:?}", options.access);
        let refused =
            Server::bind(empty_store().await, options).await.err().unwrap_or_else(|| panic!("{shown}"));
        for part in parts {
            assert!(refused.to_string().contains(part), "{shown}: {refused}");
        }
    }
}
