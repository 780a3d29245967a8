// A running shop for the tests, and what a test can do to it: the other side of crates/testbed/examples/stage.rs.

import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";

/** What a stage says first. */
interface Opening {
  /** Where the shop is served, without a slash at the end. */
  url: string;
  /** Whether its nodes are real ones. */
  lightning: "real" | "simulated";
}

/** What can be asked of a stage; see the program. */
export type Wish =
  /** Stops the shop's node. */
  | { do: "stop_node" }
  /** Starts it again and returns when it can be paid. */
  | { do: "start_node" }
  /** From now on no environment can be made; orders that are paid fail. */
  | { do: "break_remote" }
  /** The end of that. */
  | { do: "mend_remote" }
  /** All environments end, and take no more of the machine. */
  | { do: "end_environments" }
  /** Nothing is served any more; connections are closed. */
  | { do: "close_site" }
  /** It is served again, at the same place. */
  | { do: "open_site" }
  /** Pays an invoice with the customer's node. */
  | { do: "pay"; bolt11: string }
  /** Calls a method of the shop's node, as its operator. */
  | { do: "call"; method: string; params: unknown };

export class Stage {
  readonly url: string;
  readonly lightning: Opening["lightning"];
  readonly #program: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;

  private constructor(program: ChildProcessWithoutNullStreams, lines: AsyncIterator<string>, opening: Opening) {
    this.#program = program;
    this.#lines = lines;
    this.url = opening.url;
    this.lightning = opening.lightning;
  }

  /** Starts a shop; `args` as the program takes them. */
  static async open(...args: string[]): Promise<Stage> {
    const root = path.join(import.meta.dirname, "../..");
    const programs = process.env.TESTBED_BIN_DIR ?? path.join(root, "target/debug");
    const stage = path.join(programs, "examples/stage");
    if (!existsSync(stage)) throw new Error(`${stage} is missing: cargo build --workspace --bins --examples`);
    const program = spawn(stage, args, { cwd: root, stdio: "pipe" });
    program.stderr.pipe(process.stderr);
    const lines = createInterface({ input: program.stdout })[Symbol.asyncIterator]();
    const first = await lines.next();
    if (first.done) throw new Error("the stage ended before it was open; see above");
    return new Stage(program, lines, JSON.parse(first.value) as Opening);
  }

  /** Does something to the shop, and returns when it is done. One at a time. */
  async ask(wish: Wish): Promise<any> {
    this.#program.stdin.write(JSON.stringify(wish) + "\n");
    const line = await this.#lines.next();
    if (line.done) throw new Error(`the stage ended at ${wish.do}; see above`);
    const answer = JSON.parse(line.value) as { ok: any } | { error: string };
    if ("error" in answer) throw new Error(`${wish.do}: ${answer.error}`);
    return answer.ok;
  }

  /** Ends the shop and waits until it is gone. */
  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#program.once("exit", resolve));
    this.#program.stdin.end();
    await ended;
  }
}
