//! The hub's binary: parses the command line and hands over to the library.

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use flotilla_hub::{app, backup, config, trace};
use tikv_jemallocator::Jemalloc;

/// What reads many documents at once needs much for a moment. This allocator gives it back; the C library's keeps it in the
/// arenas of threads that have gone idle.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// For so long threads that block may end what they are at, once the hub has stopped.
const LAST_WAIT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    // The one TLS provider of the whole tree; installed twice only by a mistake of ours.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = config::Cli::parse();
    // Before any thread: a process that was started to become a confined renderer does nothing else.
    if let config::Command::SandboxExec { args } = cli.command {
        return flotilla_hub::renderer::sandbox::confine::exec(args);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("✗ cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ran = runtime.block_on(run(cli.command));
    // No thread that is still at something keeps the process.
    runtime.shutdown_timeout(LAST_WAIT);
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("✗ {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: config::Command) -> anyhow::Result<()> {
    match command {
        config::Command::Serve(serve) => {
            let exporting = trace::init(&serve.log_format, serve.otlp_endpoint.as_deref())?;
            flotilla_hub::process::raise_descriptors();
            let running = app::start(&serve).await?;
            wait_for_signal().await?;
            tracing::info!("stopping");
            running.stop().await;
            exporting.stop();
            Ok(())
        }
        config::Command::Migrate(database) => {
            trace::init("text", None)?;
            app::open_store(&database).await?.close().await;
            println!("✔ the schema is up to date");
            Ok(())
        }
        config::Command::Backup(asked) => {
            trace::init("text", None)?;
            let manifest = backup::write(&asked).await?;
            println!(
                "✔ backup of hub {} written to {}: {}",
                manifest.trust_domain,
                asked.dir.display(),
                manifest.contents()
            );
            println!(
                "► it holds the key-encryption key, which opens every secret in it: keep it as secret as those"
            );
            Ok(())
        }
        config::Command::Restore(asked) => {
            trace::init("text", None)?;
            let restored = backup::restore::restore(&asked).await?;
            println!(
                "✔ hub {} has incarnation {} now; start it with `flotilla-hub serve`",
                restored.trust_domain, restored.incarnation
            );
            println!(
                "► agents come back by themselves and keep what they hold until each app's source was looked at again"
            );
            Ok(())
        }
        config::Command::Admin {
            command: config::Admin::Reset(serve),
        } => {
            trace::init("text", None)?;
            app::admin_reset(&serve).await?;
            println!(
                "✔ administrator's credential replaced: {}/admin.yaml",
                serve.database.data_dir.display()
            );
            Ok(())
        }
        config::Command::SandboxExec { .. } => Ok(()),
    }
}

async fn wait_for_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
