//! Databases: each test's own, in one server.

use flotilla_testkit::{TestDb, TestPostgres};
use sqlx::{Connection, PgConnection};

type Failure = Box<dyn std::error::Error>;

#[tokio::test]
async fn databases_are_apart_and_gone_when_dropped() -> Result<(), Failure> {
    let (one, two) = (TestDb::create().await?, TestDb::create().await?);
    let mut first = PgConnection::connect(one.url()).await?;
    let mut second = PgConnection::connect(two.url()).await?;
    sqlx::query("CREATE TABLE ships (name text)")
        .execute(&mut first)
        .await?;
    let missing = sqlx::query("SELECT name FROM ships").execute(&mut second).await;
    assert!(missing.is_err(), "the other database has the table too");

    let url = one.url().to_owned();
    drop(one);
    let error = PgConnection::connect(&url)
        .await
        .err()
        .ok_or("the database is still there")?;
    assert!(error.to_string().contains("does not exist"), "{error}");
    Ok(())
}

#[tokio::test]
async fn what_was_committed_survives_a_crash() -> Result<(), Failure> {
    let server = TestPostgres::start().await?;
    let database = server.database().await?;
    let mut connection = PgConnection::connect(database.url()).await?;
    sqlx::query("CREATE TABLE ships AS SELECT 'Argo' AS name")
        .execute(&mut connection)
        .await?;
    server.crash();
    assert!(
        PgConnection::connect(database.url()).await.is_err(),
        "it is still there"
    );
    server.restart().await?;
    let mut connection = PgConnection::connect(database.url()).await?;
    let name: String = sqlx::query_scalar("SELECT name FROM ships")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(name, "Argo");
    Ok(())
}
