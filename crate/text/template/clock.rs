//! `strftime_now`, with the time that the host passes.

use std::fmt::Write;

use minijinja::{Error, ErrorKind};

/// A local date and time. The engine has no clock: the host says what time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// Of the Gregorian calendar.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl DateTime {
    /// 1 to 366.
    fn day_of_year(&self) -> u32 {
        let leap = self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let lengths = [31, 28 + u32::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        lengths.iter().take(usize::from(self.month).saturating_sub(1)).sum::<u32>() + u32::from(self.day)
    }

    /// 0 is Sunday.
    fn weekday(&self) -> usize {
        let before = u32::from(self.year).saturating_sub(1);
        ((before + before / 4 - before / 100 + before / 400 + self.day_of_year()) % 7) as usize
    }

    /// Python's `strftime` in the C locale. `%-d` and the like leave the leading zero out.
    pub fn format(&self, pattern: &str) -> Result<String, Error> {
        let month = MONTHS[usize::from(self.month.clamp(1, 12)) - 1];
        let day = DAYS[self.weekday()];
        let hour12 = (u32::from(self.hour) + 11) % 12 + 1;
        let mut out = String::new();
        let mut rest = pattern.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut code = rest.next();
            let bare = code == Some('-');
            if bare {
                code = rest.next();
            }
            let mut number = |value: u32, width: usize| {
                let width = if bare { 0 } else { width };
                write!(out, "{value:0width$}").expect("writing to a string");
            };
            match code {
                Some('Y') => number(self.year.into(), 4),
                Some('y') => number(u32::from(self.year) % 100, 2),
                Some('m') => number(self.month.into(), 2),
                Some('d') => number(self.day.into(), 2),
                Some('H') => number(self.hour.into(), 2),
                Some('I') => number(hour12, 2),
                Some('M') => number(self.minute.into(), 2),
                Some('S') => number(self.second.into(), 2),
                Some('j') => number(self.day_of_year(), 3),
                Some('e') => write!(out, "{:2}", self.day).expect("writing to a string"),
                Some('B') => out.push_str(month),
                Some('b' | 'h') => out.push_str(&month[..3]),
                Some('A') => out.push_str(day),
                Some('a') => out.push_str(&day[..3]),
                Some('p') => out.push_str(if self.hour < 12 { "AM" } else { "PM" }),
                Some('F') => out.push_str(&self.format("%Y-%m-%d")?),
                Some('T') => out.push_str(&self.format("%H:%M:%S")?),
                Some('%') => out.push('%'),
                other => {
                    let code = other.map_or(String::new(), String::from);
                    return Err(Error::new(ErrorKind::InvalidOperation, format!("strftime_now does not know %{code}")));
                }
            }
        }
        Ok(out)
    }
}
