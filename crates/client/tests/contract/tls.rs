//! Over https: the certificate is judged, and a server that cannot show a good one is no server.

use crate::stub::visitor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tollgate_client::{BuildError, Error, Reason, Tollgate};

/// Made by `tls/make.sh`.
const AUTHORITY: &str = include_str!("tls/authority.pem");
const KEY: &str = include_str!("tls/server.key");
/// For 127.0.0.1.
const HERE: &str = include_str!("tls/here.pem");
/// For tollgate.example.
const ELSEWHERE: &str = include_str!("tls/elsewhere.pem");

struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

/// Answers `null` over TLS, with this certificate.
async fn server(certificate: &str) -> Server {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            // A client that refuses the certificate ends the handshake.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 1024]).await;
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\nnull";
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    Server { address, connections }
}

#[tokio::test]
async fn a_server_with_a_good_certificate_is_asked() {
    let server = server(HERE).await;
    let builder = Tollgate::builder(format!("https://{}", server.address));
    let tollgate = builder.root_certificates(AUTHORITY).build().expect("a handle");
    assert!(tollgate.session(&visitor()).await.expect("an answer").is_none());
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_is_somebody_else_is_told_nothing() {
    let (wrong_name, unknown) = (server(ELSEWHERE).await, server(HERE).await);
    let public = Tollgate::new(format!("https://{}", unknown.address)).expect("a handle");
    let builder = Tollgate::builder(format!("https://{}", wrong_name.address));
    let misnamed = builder.root_certificates(AUTHORITY).build().expect("a handle");
    for (tollgate, connections) in [(public, unknown.connections), (misnamed, wrong_name.connections)] {
        let error = tollgate.session(&visitor()).await.expect_err("the certificate is refused");
        let Error::Unavailable(unavailable) = &error else { panic!("{error:?}") };
        assert_eq!(unavailable.reason(), Reason::NoConnection);
        assert!(error.to_string().contains("certificate"), "{error}");
        assert_eq!(
            connections.load(Ordering::SeqCst),
            2,
            "one more attempt, as for every connection that fails"
        );
    }
}

#[test]
fn what_is_no_certificate_is_refused_at_once() {
    for pem in ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let made = Tollgate::builder("https://tollgate.example").root_certificates(pem).build();
        assert_eq!(made.expect_err(pem), BuildError::RootCertificates);
    }
}
