/** The texts around the lesson plans. */
export const t = {
  title: 'Lesson plans',
  lead: 'What to say, what all do, and what the wall then shows. The words in quotes are those of the buttons behind the cards.',
  all: 'All lesson plans',
  minutes: (n: number) => `${n} minutes`,
  before: 'Before people come',
  say: 'Say',
  do: 'Everybody',
  wall: 'On the wall',
  at: (from: number, to: number) => `${from} to ${to} min`,
  print: 'Print this plan',
  read: (title: string) => `Read “${title}”`,
  order: 'Order a network',
  room: 'For the room',
  link: 'Lesson plans',
  linkHint: 'Three lessons of 20, 45 and 90 minutes, to print with the cards.',
} as const;
