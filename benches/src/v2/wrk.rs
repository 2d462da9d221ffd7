//! wrk, and what it prints.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keelson_tests::http::Request;
use keelson_tests::proc::process::Process;
use keelson_tests::proc::usage;

use crate::measure::{Measure, Watched};
/// How long wrk may take beyond its load.
const PATIENCE: Duration = Duration::from_secs(20);

/// The end of every script: wrk's figures for programs, one a line.
const DONE: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.timeout
  io.write(string.format("keelson summary %d %d %d %d\n",
    summary.requests, summary.duration, e.status, failed))
  for i = 1, #latency do
    io.write(string.format("keelson latency %d %d\n", latency(i)))
  end
end
"#;

/// wrk, ready for one kind of request.
#[derive(Debug)]
pub struct Wrk {
    /// The program.
    pub program: PathBuf,
    /// The URL's beginning.
    pub url: String,
    /// What it sends.
    pub request: Request,
    /// Connections.
    pub connections: usize,
    /// Where its script and its output may go.
    pub dir: PathBuf,
}

impl Wrk {
    /// Runs it for that long, and measures the processes meanwhile.
    ///
    /// # Errors
    /// wrk fails, or one of the processes is gone.
    pub async fn run(&self, seconds: Duration, pids: &[u32]) -> Result<Measure> {
        let (script, output) = (self.dir.join("wrk.lua"), self.dir.join("wrk.out"));
        std::fs::write(&script, script_of(&self.request))?;
        // A process's output is appended to what is there.
        std::fs::write(&output, "")?;
        let mut servers = Watched::start(pids)?;
        let mut wrk = Process::start(&self.program, &self.arguments(seconds, &script), &output)?;
        let end = Instant::now() + seconds;
        servers.until(end).await?;
        let client_cpu = usage::cpu(wrk.pid()).unwrap_or_default();
        let status = wrk.wait(PATIENCE).await?;
        servers.until(Instant::now()).await?;
        let text = std::fs::read_to_string(&output)?;
        ensure!(status.success(), "wrk ended with {status}: {text}");
        let mut measure = parse(&text).with_context(|| format!("wrk printed: {text}"))?;
        measure.server_cpu = servers.cpu();
        measure.client_cpu = client_cpu;
        measure.memory = servers.memory;
        measure.cpu_micros.push(measure.server_cpu_micros());
        Ok(measure)
    }

    fn arguments(&self, seconds: Duration, script: &Path) -> Vec<String> {
        // wrk takes whole seconds only.
        let seconds = seconds.as_secs_f64().ceil().max(1.0);
        vec![
            "-t1".into(),
            format!("-c{}", self.connections),
            format!("-d{seconds:.0}s"),
            "--script".into(),
            script.display().to_string(),
            format!("{}{}", self.url, self.request.target_text()),
        ]
    }
}

/// The script that makes wrk send the request and print its figures.
fn script_of(request: &Request) -> String {
    let mut script = format!("wrk.method = \"{}\"\n", request.method);
    if let Some(form) = &request.body {
        let form = String::from_utf8_lossy(form);
        script += &format!("wrk.body = \"{form}\"\n");
        script += "wrk.headers[\"Content-Type\"] = \"application/x-www-form-urlencoded\"\n";
    }
    script + DONE
}

/// wrk's figures.
fn parse(text: &str) -> Result<Measure> {
    let (mut measure, mut answers) = (Measure::default(), None);
    for line in text.lines() {
        let Some(line) = line.strip_prefix("keelson ") else {
            continue;
        };
        let words: Vec<&str> = line.split(' ').collect();
        let figures = words[1..].iter().map(|word| word.parse::<u64>());
        let figures: Vec<u64> = figures
            .collect::<Result<_, _>>()
            .context(line.to_string())?;
        match (words[0], &figures[..]) {
            ("summary", [all, micros, refused, broken]) => {
                answers = Some(all.saturating_sub(*refused));
                measure.seconds = Duration::from_micros(*micros).as_secs_f64();
                measure.tally.errors = refused + broken;
            }
            ("latency", [micros, count]) => {
                let latency = Duration::from_micros(*micros);
                measure.tally.latencies.record_many(latency, *count);
            }
            _ => bail!("a line that the script does not print: {line}"),
        }
    }
    // Not the number of latencies: wrk adds some for the requests that a slow one kept from being
    // sent.
    measure.requests = answers.context("no summary")?;
    if measure.tally.errors > 0 {
        let reason = "counted by wrk: not 2xx or 3xx, or a broken connection".to_string();
        measure.tally.reasons.insert(reason, measure.tally.errors);
    }
    measure.rates.push(measure.rate());
    Ok(measure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_run() {
        let text = "Running 2s test @ http://127.0.0.1:1/v2/keys/foo\n  2 requests in 2s\n\
            keelson summary 103 2000000 2 1\nkeelson latency 1000 90\nkeelson latency 5000 20\n";
        let measure = parse(text).unwrap();
        assert_eq!((measure.requests, measure.tally.errors), (101, 3));
        assert!((measure.rate() - 50.5).abs() < 1e-9);
        let (p50, p99) = (measure.millis(0.5), measure.millis(0.99));
        assert!((p50 - 1.0).abs() < 0.02 && (p99 - 5.0).abs() < 0.1);
        assert!(parse("unable to connect\n").is_err());
        assert!(parse("keelson summary 1\n").is_err());
    }

    #[test]
    fn a_put_has_a_form() {
        let script = script_of(&Request::put("/v2/keys/foo", "value=v"));
        assert!(script.starts_with("wrk.method = \"PUT\"\nwrk.body = \"value=v\"\n"));
        assert!(!script_of(&Request::get("/")).contains("wrk.body"));
    }
}
