//! HTTPS against a server whose certificate a private authority signed: trusted through the CA file that the settings
//! name (`NODE_EXTRA_CA_CERTS`) and through `SSL_CERT_FILE`, and refused otherwise.

use crabbox_vast_engine::world::real::ReqwestHttp;
use crabbox_vast_engine::world::{Http, HttpRequest, Limits, Method};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Set in the process that a test starts again, so that the environment is its own.
const AGAIN: &str = "CRABBOX_VAST_TLS_TEST_URL";

/// A server on loopback, its authority's certificate as a PEM file.
async fn server(folder: &Path) -> (String, PathBuf) {
    let mut authority = CertificateParams::new(Vec::new()).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let authority =
        CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate =
        CertificateParams::new(names).expect("names").signed_by(&key, &authority).expect("a certificate");
    let file = folder.join("authority of one.pem");
    std::fs::write(&file, authority.pem()).expect("written");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .expect("a usable certificate");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let reply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
                let _ = stream.write_all(reply.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (format!("https://localhost:{port}/api/v0/users/current/"), file)
}

async fn get(url: &str, extra_ca: Option<PathBuf>) -> Result<u16, String> {
    let second = Duration::from_secs(10);
    let request = HttpRequest {
        method: Method::Get,
        url: url.to_owned(),
        bearer: None,
        body: None,
        limits: Limits { connect: second, headers: second, body: second, body_bytes: 1024 },
    };
    let reply = ReqwestHttp::new(extra_ca).send(request).await;
    reply.map(|reply| reply.status).map_err(|error| error.message)
}

#[tokio::test]
async fn a_private_authority_is_trusted_only_when_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (url, file) = server(folder.path()).await;
    let refusal = get(&url, None).await.expect_err("an unknown authority");
    assert!(refusal.to_lowercase().contains("certificate"), "{refusal}");
    assert_eq!(get(&url, Some(file)).await, Ok(200));
    let other = tempfile::tempdir().expect("a folder");
    let (_, another) = server(other.path()).await;
    get(&url, Some(another)).await.expect_err("another authority than the server's");
}

#[tokio::test]
async fn a_ca_file_that_is_none_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let (url, file) = server(folder.path()).await;
    for (name, text) in [
        ("missing.pem", None),
        ("broken.pem", Some("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n")),
    ] {
        let path = file.with_file_name(name);
        if let Some(text) = text {
            std::fs::write(&path, text).expect("written");
        }
        let complaint = get(&url, Some(path)).await.expect_err("not a CA file");
        assert!(complaint.contains(name), "{complaint}");
    }
}

#[tokio::test]
async fn the_systems_variable_names_an_authority() {
    let folder = tempfile::tempdir().expect("a folder");
    let (url, file) = server(folder.path()).await;
    for (trusted, value) in [(true, file.clone()), (false, folder.path().join("nothing.pem"))] {
        let again = std::env::current_exe().expect("this test");
        let mut command = tokio::process::Command::new(again);
        command.args(["--exact", "tls::in_a_process_of_its_own", "--ignored", "--nocapture"]);
        command.env("SSL_CERT_FILE", value).env_remove("SSL_CERT_DIR").env(AGAIN, &url);
        let output = command.output().await.expect("starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.contains("answered 200"), trusted, "{text}");
        assert_eq!(text.contains("refused"), !trusted, "{text}");
    }
}

#[tokio::test]
#[ignore = "started by the test above with another environment"]
async fn in_a_process_of_its_own() {
    let Ok(url) = std::env::var(AGAIN) else { return };
    match get(&url, None).await {
        Ok(status) => println!("answered {status}"),
        Err(message) => println!("refused: {message}"),
    }
}
