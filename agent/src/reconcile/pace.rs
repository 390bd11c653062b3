//! Long work of the loop in pieces, so that link, watches and health port, which share its thread, wait for a piece and
//! not for the whole.

/// Rows of one piece.
const PIECE: usize = 256;

/// How far the present piece has come.
#[derive(Debug, Default)]
pub(super) struct Pace {
    rows: usize,
}

impl Pace {
    /// Notes that rows were handled; lets other tasks run when a piece is full.
    pub(super) async fn handled(&mut self, rows: usize) {
        self.rows += rows;
        if self.rows >= PIECE {
            self.rows = 0;
            tokio::task::yield_now().await;
        }
    }
}
