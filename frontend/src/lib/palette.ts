/** The default names and colours of nodes, for pictures of networks that do not exist yet. */

/** The first names in `lnplay`'s list (crates/lnplay-agent/src/names.rs). */
export const NAMES = [
  'Alice', 'Bruno', 'Carol', 'Diego', 'Elena', 'Farid', 'Greta', 'Hugo',
  'Imani', 'Jonas', 'Keiko', 'Liam', 'Maya', 'Nils', 'Olga', 'Pablo',
] as const; // prettier-ignore

/** The colour that `lnplay` gives to node `index`: hues at the golden angle. */
export function nodeColor(index: number): string {
  const hue = Math.floor((((index * 381_966) % 1_000_000) * 1536) / 1_000_000);
  const level = (value: number) => 32 + Math.floor((value * 3) / 4);
  const [up, down, none, full] = [level(hue % 256), level(255 - (hue % 256)), level(0), level(255)];
  const ramps = [
    [full, up, none],
    [down, full, none],
    [none, full, up],
    [none, down, full],
    [up, none, full],
    [full, none, down],
  ];
  const rgb = ramps[Math.floor(hue / 256)] ?? [none, none, none];
  return `#${rgb.map((part) => part.toString(16).padStart(2, '0')).join('')}`;
}

/** The relative luminance of a colour, 0 to 1 (WCAG). */
export function luminance(color: string): number {
  const [r = 0, g = 0, b = 0] = [1, 3, 5].map((at) => {
    const part = parseInt(color.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Black or white, whichever has more contrast to the colour. */
export function inkOn(color: string): string {
  const light = luminance(color);
  return (light + 0.05) / 0.05 >= 1.05 / (light + 0.05) ? '#000000' : '#ffffff';
}
