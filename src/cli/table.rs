//! Tables for people: aligned columns, no lines, and beneath a row what else there is to say of it.

use comfy_table::{ContentArrangement, Table};

/// Narrower columns are no help to anyone.
const NARROWEST: u16 = 40;
const INDENT: &str = "    ";

/// A row, and what stands beneath it.
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// All rows, each whole on its line; notes are wrapped where there is a `width`.
pub(super) fn table(head: &[&str], rows: &[Row], width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.to_vec());
    table.add_rows(rows.iter().map(|row| row.cells.clone()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut lines = table.lines();
    let mut text = line(&lines.next().unwrap_or_default());
    for (row, cells) in rows.iter().zip(lines) {
        text += &line(&cells);
        for note in &row.notes {
            text += &indented(note, width);
        }
    }
    text
}

/// What stands beneath the whole, a line each after an empty one.
pub(super) fn footed(text: &str, footnotes: &[String]) -> String {
    let mut footed = text.to_owned();
    if !footnotes.is_empty() {
        footed.push('\n');
    }
    for footnote in footnotes {
        footed += &line(footnote);
    }
    footed
}

/// `text` with four spaces before each line, wrapped at `width` if there is one.
pub(super) fn indented(text: &str, width: Option<u16>) -> String {
    let Some(width) = width else { return line(&format!("{INDENT}{text}")) };
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.max(NARROWEST));
    table.add_row([text]);
    for column in table.column_iter_mut() {
        column.set_padding((4, 0));
    }
    table.lines().map(|wrapped| line(&wrapped)).collect()
}

fn line(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str], notes: &[&str]) -> Row {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Row { cells: owned(cells), notes: owned(notes) }
    }

    #[test]
    fn columns_align_and_no_space_trails() {
        let rows = [row(&["web", "in_sync", "a.test"], &[]), row(&["日本", "held", ""], &["why"])];
        let expected = "\
NAME  STATE    NAMES
web   in_sync  a.test
日本  held
    why
";
        assert_eq!(table(&["NAME", "STATE", "NAMES"], &rows, Some(80)), expected);
    }

    #[test]
    fn rows_stay_whole_and_notes_are_wrapped() {
        let long = "word ".repeat(30);
        let rows = [row(&["web", &long], &[&long])];
        let shown = table(&["NAME", "NAMES"], &rows, Some(60));
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1], format!("web   {}", long.trim_end()));
        assert!(lines.len() > 3, "{shown}");
        for line in &lines[2..] {
            assert!(line.starts_with("    word") && line.len() <= 60, "{line}");
        }
        let whole = table(&["NAME", "NAMES"], &rows, None);
        assert_eq!(whole.lines().count(), 3, "{whole}");
    }
}
