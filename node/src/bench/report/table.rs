//! Results as text: aligned for a terminal, or as Markdown.

use std::fmt::Write;

use super::schema::{Report, Row};

/// A table whose first columns are names and whose others are numbers.
pub(crate) struct Table {
    names: usize,
    lines: Vec<Vec<String>>,
}

impl Table {
    /// `names` columns are aligned to the left.
    pub(crate) fn new(names: usize, head: &[&str]) -> Self {
        Self { names, lines: vec![head.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    pub(crate) fn push(&mut self, line: Vec<String>) {
        self.lines.push(line);
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.lines.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        (0..columns).map(width).collect()
    }

    /// For a terminal.
    pub(crate) fn text(&self) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for line in &self.lines {
            let mut row = String::new();
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                row.push_str(if column > 0 { "  " } else { "" });
                // Writing to a string cannot fail.
                let _ = if column < self.names {
                    write!(row, "{cell:<width$}")
                } else {
                    write!(row, "{cell:>width$}")
                };
            }
            text.push_str(row.trim_end());
            text.push('\n');
        }
        text
    }

    /// For a document.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for (number, line) in self.lines.iter().enumerate() {
            let _ = writeln!(text, "| {} |", line.join(" | "));
            if number == 0 {
                let rule = |column| if column < self.names { "---" } else { "---:" };
                let rules: Vec<_> = (0..line.len()).map(rule).collect();
                let _ = writeln!(text, "|{}|", rules.join("|"));
            }
        }
        text
    }
}

/// All results, a line for each kind of operation.
pub(crate) fn results(reports: &[Report]) -> Table {
    let with_servers = reports.iter().any(|report| !report.servers.is_empty());
    let mut head = vec!["operation", "size", "c", "ops", "ops/s", "MiB/s"];
    head.extend(["p50 ms", "p99 ms", "p99.9 ms", "max ms", "errors", "SlowDown"]);
    head.push("client CPU s/1000");
    if with_servers {
        head.extend(["server CPU s/1000", "server RSS MiB"]);
    }
    let mut table = Table::new(2, &head);
    for report in reports {
        for row in &report.rows {
            table.push(line(report, row, with_servers));
        }
    }
    table
}

fn line(report: &Report, row: &Row, with_servers: bool) -> Vec<String> {
    let mut line = vec![row.operation.clone(), report.size.clone(), report.concurrency.to_string()];
    line.push(row.operations.to_string());
    line.push(number(row.operations_per_s));
    line.push(if row.bytes > 0 { number(row.mib_per_s) } else { "-".to_owned() });
    let latency = row.latency_ms.as_ref();
    let latencies = latency.map(|it| [it.p50, it.p99, it.p999, it.max].map(number));
    line.extend(latencies.unwrap_or_else(|| ["-"; 4].map(str::to_owned)));
    line.extend([row.failed.to_string(), row.slow_downs.to_string()]);
    // Costs are known of the whole measurement only.
    let whole = report.total().is_some_and(|total| total.operation == row.operation);
    let cost = |value: Option<f64>| match value.filter(|_| whole) {
        Some(value) => format!("{value:.3}"),
        None => "-".to_owned(),
    };
    line.push(cost(report.client.as_ref().and_then(|usage| usage.cpu_s_per_1000_requests)));
    if with_servers {
        line.push(cost(report.servers_cpu_s_per_1000_requests));
        line.push(match report.server_rss_max().filter(|_| whole) {
            Some(bytes) => (bytes >> 20).to_string(),
            None => "-".to_owned(),
        });
    }
    line
}

/// What a table has no room for: errors, and what makes figures doubtful.
pub(crate) fn notes(reports: &[Report]) -> String {
    let mut text = String::new();
    for report in reports {
        let Report { operation, size, concurrency, .. } = report;
        let at = format!("{operation} {size} c={concurrency}");
        for row in report.rows.iter().filter(|row| row.operation != "total") {
            for (code, error) in &row.errors {
                let kind = &row.operation;
                let (count, example) = (error.count, &error.example);
                let _ = writeln!(text, "{at}: {kind}: {count} x {code}, such as: {example}");
            }
        }
        match report.ended {
            "stopped" => {
                let _ = writeln!(text, "{at}: stopped after {:.1} s", report.elapsed_s);
            }
            "exhausted" => {
                let seconds = report.elapsed_s;
                let _ = writeln!(text, "{at}: all objects were deleted after {seconds:.1} s");
            }
            _ => {}
        }
        if let Some(busy) = report.client_busy.filter(|busy| *busy > 0.9 && report.elapsed_s > 1.0)
        {
            let percent = busy * 100.0;
            let _ = writeln!(
                text,
                "{at}: the client's threads were busy {percent:.0} % of the time: more --threads \
                 may show a faster server"
            );
        }
        for usage in report.servers.iter().filter(|usage| !usage.lived) {
            let _ = writeln!(text, "{at}: server process {} ended meanwhile", usage.pid);
        }
    }
    text
}

/// Three digits that matter.
pub(crate) fn number(value: f64) -> String {
    match value {
        it if it >= 99.95 => format!("{it:.0}"),
        it if it >= 9.995 => format!("{it:.1}"),
        it if it >= 0.9995 => format!("{it:.2}"),
        it => format!("{it:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(1, &["name", "n"]);
        table.push(vec!["a".into(), "1234".into()]);
        assert_eq!(table.text(), "name     n\na     1234\n");
        assert_eq!(table.markdown(), "| name | n |\n|---|---:|\n| a | 1234 |\n");
    }

    #[test]
    fn numbers_have_three_digits() {
        let shown = [0.0, 0.1234, 1.5, 12.34, 99.96, 123.4, 54321.0].map(number);
        assert_eq!(shown, ["0.000", "0.123", "1.50", "12.3", "100", "123", "54321"]);
    }
}
