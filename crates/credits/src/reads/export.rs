//! Entries as lines of a file.

use super::entries::Listed;

/// The members of an entry in a list, in their order.
pub const CSV_HEADER: &str = "id,seq,kind,amount,balance_after,unit,feature,reason,actor,idempotency_key,source_ref,parts,\
                              metadata,created_at\r\n";

/// Adds a line of RFC 4180, with its end.
pub fn csv_line(out: &mut String, listed: &Listed) {
    let entry = &listed.entry;
    text(out, &entry.id());
    out.push_str(&format!(",{},{},{},{},", entry.seq, entry.kind.name(), entry.amount, entry.balance_after));
    text(out, &listed.unit);
    let texts = [
        &entry.feature,
        &entry.reason,
        &Some(entry.actor.clone()),
        &entry.idempotency_key,
        &entry.source_ref,
    ];
    for cell in texts {
        out.push(',');
        text(out, cell.as_deref().unwrap_or_default());
    }
    out.push(',');
    text(out, &entry.parts_json());
    out.push(',');
    text(out, entry.metadata.as_deref().unwrap_or_default());
    out.push(',');
    out.push_str(entry.created_at.iso_text().as_str());
    out.push_str("\r\n");
}

/// A spreadsheet runs a cell that begins like a formula, so none does.
fn text(out: &mut String, cell: &str) {
    let guard = if cell.starts_with(['=', '+', '-', '@']) { "'" } else { "" };
    if !cell.contains([',', '"', '\r', '\n']) {
        out.push_str(guard);
        out.push_str(cell);
        return;
    }
    out.push('"');
    out.push_str(guard);
    out.push_str(&cell.replace('"', "\"\""));
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be_and_never_run() {
        for (cell, written) in [
            ("", ""),
            ("plain text", "plain text"),
            ("a,b", "\"a,b\""),
            ("say \"so\"", "\"say \"\"so\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1,A2)", "\"'@SUM(A1,A2)\""),
            ("a=b", "a=b"),
            ("'=1", "'=1"),
        ] {
            let mut out = String::new();
            text(&mut out, cell);
            assert_eq!(out, written);
        }
    }
}
