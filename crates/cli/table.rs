//! Rows as text tables.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serving::{Error, Kind, Result};

const WIDEST: usize = 60;

/// A table of at most `most` rows; says how many are left out.
pub fn print(schema: &SchemaRef, batches: &[RecordBatch], most: usize) -> Result<()> {
    print_of(batches.iter().map(RecordBatch::num_rows).sum(), schema, batches, most)
}

/// The same of `total` rows, of which the first are at hand.
pub fn print_of(total: usize, schema: &SchemaRef, first: &[RecordBatch], most: usize) -> Result<()> {
    print!("{}", to_text(schema, first, most)?);
    if total > most {
        println!("… and {} more rows ({total} in all)", total - most);
    }
    Ok(())
}

pub fn to_text(schema: &SchemaRef, batches: &[RecordBatch], most: usize) -> Result<String> {
    let mut lines: Vec<Vec<String>> =
        vec![schema.fields().iter().map(|field| field.name().clone()).collect()];
    for batch in batches {
        if lines.len() > most {
            break;
        }
        lines.extend(cells(batch, most + 1 - lines.len())?);
    }
    let right: Vec<bool> = schema.fields().iter().map(|field| is_number(field.data_type())).collect();
    Ok(aligned(&lines, &right))
}

fn is_number(kind: &DataType) -> bool {
    kind.is_numeric()
}

fn cells(batch: &RecordBatch, most: usize) -> Result<Vec<Vec<String>>> {
    let options = FormatOptions::default().with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f %Z"));
    let wrong = |error: arrow::error::ArrowError| Error::new(Kind::Internal, error.to_string());
    let formatters = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options))
        .collect::<Result<Vec<_>, _>>()
        .map_err(wrong)?;
    let mut lines = Vec::new();
    for row in 0..batch.num_rows().min(most) {
        let mut line = Vec::with_capacity(formatters.len());
        for (formatter, column) in formatters.iter().zip(batch.columns()) {
            let text = if column.is_null(row) {
                "null".to_owned()
            } else {
                formatter.value(row).try_to_string().map_err(wrong)?
            };
            line.push(shortened(&text));
        }
        lines.push(line);
    }
    Ok(lines)
}

/// A text in one line of at most sixty characters.
pub fn shortened(text: &str) -> String {
    let flat: String = text.chars().map(|c| if c == '\n' { ' ' } else { c }).collect();
    if flat.chars().count() <= WIDEST {
        return flat;
    }
    let mut short: String = flat.chars().take(WIDEST - 1).collect();
    short.push('…');
    short
}

/// Lines of cells in columns, the first line a heading with a rule under it.
pub fn aligned(lines: &[Vec<String>], right: &[bool]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        lines.iter().map(|line| line.get(column).map_or(0, |cell| cell.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let mut shown = String::new();
        for (column, cell) in line.iter().enumerate() {
            let pad = " ".repeat(widths[column] - cell.chars().count());
            if column > 0 {
                shown.push_str("  ");
            }
            if right.get(column).copied().unwrap_or(false) {
                shown.push_str(&pad);
                shown.push_str(cell);
            } else {
                shown.push_str(cell);
                shown.push_str(&pad);
            }
        }
        text.push_str(shown.trim_end());
        text.push('\n');
        if number == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
            text.push_str(&rules.join("  "));
            text.push('\n');
        }
    }
    text
}

/// 336776 as 336,776.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_grouped() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (336_776, "336,776"), (12_345_678, "12,345,678")]
        {
            assert_eq!(super::grouped(number), text);
        }
    }
}
