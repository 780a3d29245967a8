/** Durations and moments in words. */

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A remaining time in milliseconds as a clock: `9:05`, `1:09:05`. Never below zero. */
export function clock(ms: number): string {
  const seconds = Math.max(0, Math.ceil(ms / SECOND));
  const two = (n: number) => String(n).padStart(2, '0');
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

function count(n: number, unit: string): string {
  return `${n} ${unit}${n === 1 ? '' : 's'}`;
}

/** The same in words, to two units: `1 day 4 hours`, `12 minutes`, `less than a minute`. */
export function left(ms: number): string {
  if (ms < MINUTE) return 'less than a minute';
  const [days, hours, minutes] = [
    Math.floor(ms / DAY),
    Math.floor(ms / HOUR) % 24,
    Math.floor(ms / MINUTE) % 60,
  ];
  if (days > 0) return hours > 0 ? `${count(days, 'day')} ${count(hours, 'hour')}` : count(days, 'day');
  if (hours > 0)
    return minutes > 0 ? `${count(hours, 'hour')} ${count(minutes, 'minute')}` : count(hours, 'hour');
  return count(minutes, 'minute');
}

/** A number of hours in words: `4 hours`, `2 days`, `1 day 6 hours`. */
export function hoursInWords(hours: number): string {
  return left(hours * HOUR);
}

/** A day in the user's time zone: `24 November 2026`. */
export function day(ms: number, locale?: string, timeZone?: string): string {
  return new Intl.DateTimeFormat(locale, {
    day: 'numeric',
    month: 'long',
    year: 'numeric',
    ...(timeZone === undefined ? {} : { timeZone }),
  }).format(ms);
}

/** A moment in the user's time zone: `Tue 24 Nov, 15:46`. */
export function moment(ms: number, locale?: string, timeZone?: string): string {
  return new Intl.DateTimeFormat(locale, {
    weekday: 'short',
    day: 'numeric',
    month: 'short',
    hour: '2-digit',
    minute: '2-digit',
    ...(timeZone === undefined ? {} : { timeZone }),
  }).format(ms);
}
