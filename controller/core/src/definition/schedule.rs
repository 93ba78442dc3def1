//! When a scheduled task runs, as Kubernetes reads it.
//!
//! Kubernetes says no only when the CronJob is made, which its author does not see. Its rules are
//! those of the library that it reads with (`robfig/cron` v3, `ParseStandard`): five fields or one of
//! the words that begin with `@`, Sunday is 0 and never 7.

use watchword_crds::task_definition::Schedule;

use super::Invalid;

/// Judges a schedule: its times and its time zone.
pub(super) fn judge(schedule: &Schedule) -> Result<(), Invalid> {
    let cron = &schedule.cron;
    let wrong = |message: String| Err(Invalid::new("spec.run.schedule.cron", message));
    if cron.contains("TZ=") {
        return wrong("it names a time zone; use timeZone".to_owned());
    }
    if cron.starts_with('@') {
        if !is_descriptor(cron) {
            let known = DESCRIPTORS.join(", ");
            return wrong(format!("{cron:?} is no schedule; use {known} or \"@every 1h30m\""));
        }
    } else {
        let fields: Vec<&str> = cron.split_whitespace().collect();
        if fields.len() != FIELDS.len() {
            let message = "fields; use five, such as \"30 2 * * *\"";
            return wrong(format!("{cron:?} has {} {message}", fields.len()));
        }
        if let Some((text, field)) =
            fields.into_iter().zip(&FIELDS).find(|(text, field)| !field.takes(text))
        {
            let Field { name, first, last, .. } = field;
            return wrong(format!(
                "{text:?} is no {name}; use {first} to {last}, \"*\" or \"*/2\""
            ));
        }
    }
    let Some(zone) = &schedule.time_zone else { return Ok(()) };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+');
    let parts = zone.split('/').all(|part| part.starts_with(|c: char| c.is_ascii_uppercase()));
    if parts && zone.chars().all(is_name) && !zone.eq_ignore_ascii_case("local") {
        return Ok(());
    }
    Err(Invalid::new(
        "spec.run.schedule.timeZone",
        format!("{zone:?} is no time zone; use a name such as \"Europe/Berlin\" or \"Etc/UTC\""),
    ))
}

/// One of cron's fields: a list of numbers, names and ranges of them, each with a step.
struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    /// Names for the numbers, from `first` on.
    names: &'static [&'static str],
}

impl Field {
    fn takes(&self, text: &str) -> bool {
        // Empty items are passed over.
        let mut items = text.split(',').filter(|item| !item.is_empty()).peekable();
        items.peek().is_some() && items.all(|item| self.takes_item(item))
    }

    fn takes_item(&self, item: &str) -> bool {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let step_is_good = step.is_none_or(|step| number(step).is_some_and(|step| step > 0));
        let range_is_good = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => true,
            None => self.number(range).is_some(),
            Some((from, to)) => match (self.number(from), self.number(to)) {
                (Some(from), Some(to)) => from <= to,
                _ => false,
            },
        };
        step_is_good && range_is_good
    }

    fn number(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().zip(self.first..).find(|(name, _)| {
            // Kubernetes folds the case too.
            name.eq_ignore_ascii_case(text)
        });
        let number = named.map(|(_, number)| number).or_else(|| number(text))?;
        (self.first..=self.last).contains(&number).then_some(number)
    }
}

/// Digits only.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn is_descriptor(cron: &str) -> bool {
    match cron.strip_prefix("@every ") {
        Some(duration) => is_duration(duration),
        None => DESCRIPTORS.contains(&cron),
    }
}

/// Whether it is a duration as Go writes them: numbers with units, such as `1h30m`.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let count = &rest[..rest.len() - digits.len()];
        let unit = ["ns", "us", "µs", "ms", "s", "m", "h"];
        let Some(after) = unit.iter().find_map(|unit| digits.strip_prefix(unit)) else {
            return false;
        };
        if count.parse::<f64>().is_err() {
            return false;
        }
        rest = after;
    }
    !text.is_empty()
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", first: 0, last: 59, names: &[] },
    Field { name: "hour", first: 0, last: 23, names: &[] },
    Field { name: "day of the month", first: 1, last: 31, names: &[] },
    Field {
        name: "month",
        first: 1,
        last: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Field {
        name: "day of the week",
        first: 0,
        last: 6,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

const DESCRIPTORS: [&str; 7] =
    ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn refusal(cron: &str, time_zone: Option<&str>) -> Option<String> {
        let schedule = Schedule {
            cron: cron.to_owned(),
            time_zone: time_zone.map(str::to_owned),
            ..Schedule::default()
        };
        judge(&schedule).err().map(|invalid| invalid.to_string())
    }

    #[rstest]
    #[case("* * * * *")]
    #[case("*/5 0-23/2 1,15 JAN-mar,12 Mon-FRI")]
    #[case("0 2 ? * sun")]
    #[case("3/7 * * * 0,")]
    #[case("@midnight")]
    #[case("@every 1h30m")]
    #[case("@every 1.5h")]
    fn what_kubernetes_runs_is_taken(#[case] cron: &str) {
        assert_eq!(refusal(cron, None), None);
    }

    #[rstest]
    #[case("60 * * * *", "\"60\" is no minute; use 0 to 59, \"*\" or \"*/2\"")]
    #[case("* 24 * * *", "\"24\" is no hour; use 0 to 23, \"*\" or \"*/2\"")]
    #[case("* * 0 * *", "\"0\" is no day of the month; use 1 to 31, \"*\" or \"*/2\"")]
    #[case("* * * foo *", "\"foo\" is no month; use 1 to 12, \"*\" or \"*/2\"")]
    #[case("* * * * 7", "\"7\" is no day of the week; use 0 to 6, \"*\" or \"*/2\"")]
    #[case("5-1 * * * *", "\"5-1\" is no minute; use 0 to 59, \"*\" or \"*/2\"")]
    #[case("*/0 * * * *", "\"*/0\" is no minute; use 0 to 59, \"*\" or \"*/2\"")]
    #[case("1-2-3 * * * *", "\"1-2-3\" is no minute; use 0 to 59, \"*\" or \"*/2\"")]
    #[case(", * * * *", "\",\" is no minute; use 0 to 59, \"*\" or \"*/2\"")]
    #[case(
        "@never",
        "\"@never\" is no schedule; use @yearly, @annually, @monthly, @weekly, @daily, @midnight, \
         @hourly or \"@every 1h30m\""
    )]
    fn what_kubernetes_cannot_read_is_refused(#[case] cron: &str, #[case] message: &str) {
        assert_eq!(refusal(cron, None), Some(format!("spec.run.schedule.cron: {message}")));
    }

    #[rstest]
    #[case("Europe/Berlin", true)]
    #[case("Etc/GMT+5", true)]
    #[case("America/Argentina/Buenos_Aires", true)]
    #[case("Local", false)]
    #[case("", false)]
    #[case("europe/berlin", false)]
    #[case("../etc/passwd", false)]
    fn a_time_zone_is_a_name_of_the_database(#[case] zone: &str, #[case] is_taken: bool) {
        assert_eq!(refusal("@daily", Some(zone)).is_none(), is_taken);
    }
}
