import { describe, expect, it } from 'vitest';
import { localeFor, preferred } from './languages';

it('takes the first language of the reader that there is, else English', () => {
  expect(preferred(['de-AT', 'es-MX', 'en-GB'])).toBe('es');
  expect(preferred(['en-GB', 'es'])).toBe('en');
  expect(preferred(['ja'])).toBe('en');
  expect(preferred([])).toBe('en');
  expect(preferred(['constructor'])).toBe('en');
});

describe('localeFor', () => {
  it('takes the reader’s own country, in whatever place it is named', () => {
    expect(localeFor('en', ['de-AT', 'en-GB', 'en-US'])).toBe('en-GB');
    expect(localeFor('en', ['de-AT'])).toBe('en-US');
    expect(localeFor('en', ['en-!'])).toBe('en-US');
    expect(localeFor('es', ['en-US', 'es-MX'])).toBe('es-MX');
    expect(localeFor('es', ['en-US'])).toBe('es');
  });
});
