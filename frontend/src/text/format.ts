/** Numbers, amounts, times and lists as a language writes them. */

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** The forms of a word by number, as `Intl.PluralRules` names them. A form that is missing is as `other`. */
export type Forms = Readonly<Partial<Record<Intl.LDMLPluralRule, string>>> & { readonly other: string };

/** A sentence with a part that the page shows in another way: as a link, in bold, or as a node's name. */
export type Phrase<Part> = readonly (string | Part)[];

/** A sentence with one part of its text marked, for `components/Marked.svelte`. */
export type Marked = Phrase<{ readonly mark: string }>;

/** The ways of one locale. */
export interface Format {
  /** BCP 47. */
  readonly locale: string;
  /** A whole number, `76,800`. */
  whole(value: number): string;
  /** A share in whole percent, `40%`. */
  percent(value: number): string;
  /** A number with the form of the word for it: `count(2, { one: 'node', other: 'nodes' })` is `2 nodes`. */
  count(value: number, forms: Forms): string;
  /**
   * An amount of msat in sat, without its unit. Below 1,000 sat with what there is of fractions, because fees are that small;
   * above, rounded down, so that nobody is shown coins that are not there.
   */
  sat(msat: number): string;
  /** A price of msat in sat, without its unit, rounded up like an invoice: `76,800`. */
  price(msat: number): string;
  /** `Alice, Bruno and Clara`, of texts. */
  list(items: readonly string[]): string;
  /** The same of anything, with the texts between them. `textOf` is the text of an item, which a conjunction may depend on. */
  listed<Item>(items: readonly Item[], textOf: (item: Item) => string): (string | Item)[];
  /** A time of a minute or more, in milliseconds, in words, to two units: `1 day 4 hours`, `12 minutes`. */
  duration(ms: number): string;
  /** A number of hours in words: `4 hours`, `1 day 6 hours`. */
  hours(hours: number): string;
  /** A number of minutes, `12 minutes`. */
  minutes(minutes: number): string;
  /** A number of seconds, `9 seconds`. */
  seconds(seconds: number): string;
  /** A day in the reader's time zone, `24 November 2026`. Milliseconds since 1970. */
  day(ms: number): string;
  /** A moment in the reader's time zone, `Tue 24 Nov, 15:46`. */
  moment(ms: number): string;
  /** A time of today, or with its day: `15:46`, `24 Nov, 15:46`. */
  soon(ms: number, now?: number): string;
  /** A time of the day, `15:46`. */
  clock(ms: number): string;
}

/** The ways of a locale. `timeZone` is for tests; the reader's by default. */
export function formats(locale: string, timeZone?: string): Format {
  const zone = timeZone === undefined ? {} : { timeZone };
  const dates = (options: Intl.DateTimeFormatOptions) =>
    new Intl.DateTimeFormat(locale, { ...options, ...zone });
  const CLOCK = { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' } as const;
  const integer = new Intl.NumberFormat(locale, { maximumFractionDigits: 0 });
  const fraction = new Intl.NumberFormat(locale, { maximumFractionDigits: 3 });
  const rules = new Intl.PluralRules(locale);
  const lists = new Intl.ListFormat(locale, { type: 'conjunction' });
  const unit = (value: number, name: 'day' | 'hour' | 'minute' | 'second') =>
    new Intl.NumberFormat(locale, { style: 'unit', unit: name, unitDisplay: 'long' }).format(value);
  const whole = (value: number) => integer.format(value);

  function duration(ms: number): string {
    const [days, hours, minutes] = [
      Math.floor(ms / DAY),
      Math.floor(ms / HOUR) % 24,
      Math.floor(ms / MINUTE) % 60,
    ];
    if (days > 0) return hours > 0 ? `${unit(days, 'day')} ${unit(hours, 'hour')}` : unit(days, 'day');
    if (hours > 0)
      return minutes > 0 ? `${unit(hours, 'hour')} ${unit(minutes, 'minute')}` : unit(hours, 'hour');
    return unit(minutes, 'minute');
  }

  function listed<Item>(items: readonly Item[], textOf: (item: Item) => string): (string | Item)[] {
    // Elements keep their order.
    let next = 0;
    return lists.formatToParts(items.map(textOf)).map((part) => {
      const item = part.type === 'element' ? items[next++] : undefined;
      return item ?? part.value;
    });
  }

  return {
    locale,
    whole,
    percent: (value) => new Intl.NumberFormat(locale, { style: 'percent' }).format(value / 100),
    count: (value, forms) => `${whole(value)} ${forms[rules.select(value)] ?? forms.other}`,
    sat: (msat) =>
      Math.abs(msat) < 1_000_000 ? fraction.format(msat / 1000) : whole(Math.trunc(msat / 1000)),
    price: (msat) => whole(Math.ceil(msat / 1000)),
    list: (items) => lists.format(items),
    listed,
    duration,
    hours: (hours) => duration(hours * HOUR),
    minutes: (minutes) => unit(minutes, 'minute'),
    seconds: (seconds) => unit(seconds, 'second'),
    day: (ms) => dates({ day: 'numeric', month: 'long', year: 'numeric' }).format(ms),
    moment: (ms) =>
      dates({ weekday: 'short', day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' }).format(
        ms,
      ),
    soon: (ms, now = Date.now()) => {
      const day = dates({ dateStyle: 'short' });
      const isToday = day.format(ms) === day.format(now);
      return dates(isToday ? CLOCK : { ...CLOCK, day: 'numeric', month: 'short' }).format(ms);
    },
    clock: (ms) => dates(CLOCK).format(ms),
  };
}
