//! Tables as Flux prints them: padded columns with a tab between.

use flotilla_core::printable::printable;

/// A table whose cells are texts.
pub(crate) struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Starts a table.
    pub(crate) fn new(columns: Vec<&'static str>) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row with a cell per column.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        // What moves a cursor is counted as it will be shown.
        self.rows.push(cells.iter().map(|cell| one_line(cell)).collect());
    }

    /// Renders the lines, the header first unless it is left out.
    pub(crate) fn lines(&self, header: bool) -> Vec<String> {
        let names: Vec<String> = self.columns.iter().map(|name| (*name).to_owned()).collect();
        let shown: Vec<&Vec<String>> = header.then_some(&names).into_iter().chain(&self.rows).collect();
        let width = |column: usize| {
            shown
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        shown.iter().map(|row| line(row, &widths)).collect()
    }
}

/// Somebody else's text where the next line is our own: a line break in it would tear a table, or begin what looks like that.
pub(crate) fn one_line(text: &str) -> String {
    printable(&text.replace(['\n', '\t'], " "))
}

fn line(row: &[String], widths: &[usize]) -> String {
    let cells: Vec<_> = row
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!("{cell:width$}"))
        .collect();
    cells.join("\t").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_are_padded_to_their_widest_cell() {
        let mut table = Table::new(vec!["NAME", "READY", "MESSAGE"]);
        table.row(vec![
            "a-long-name".to_owned(),
            "True".to_owned(),
            "two\nlines".to_owned(),
        ]);
        table.row(vec!["b".to_owned(), "Unknown".to_owned(), String::new()]);
        assert_eq!(
            table.lines(true),
            [
                "NAME       \tREADY  \tMESSAGE",
                "a-long-name\tTrue   \ttwo lines",
                "b          \tUnknown"
            ]
        );
        assert_eq!(table.lines(false).len(), 2);
    }
}
