//! gRPC client and server of the oracle, by tonic: `oracle-tonic serve` or `oracle-tonic call`. See `tests/src/grpc/mod.rs` for what
//! is said.

mod call;
mod plain;
mod serve;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => serve::serve().await,
        ["call", connections, concurrent] => call::call(connections.parse()?, concurrent.parse()?).await,
        _ => Err("serve, or call CONNECTIONS CONCURRENT".into()),
    }
}
