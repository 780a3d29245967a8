// A running shop that tests can disturb: the client of crates/testbed/examples/stage.rs.

import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";

/** The stage's announcement. */
interface Opening {
  /** The shop's URL, without a trailing slash. */
  url: string;
  /** True if its nodes are real ones. */
  lightning: "real" | "simulated";
}

/** Commands for a stage; see the program. */
export type StageCommand =
  /** Stops the shop's node. */
  | { do: "stop_node" }
  /** Starts it again, and returns when it can be paid. */
  | { do: "start_node" }
  /** Restarts the node and its bitcoind, which then seems to download the chain until a block is mined. */
  | { do: "lose_sync" }
  /** Mines a block. */
  | { do: "mine" }
  /** Makes the creation of environments fail, so that paid orders fail. */
  | { do: "break_remote" }
  /** Ends that. */
  | { do: "mend_remote" }
  /** Ends all environments and frees their resources. */
  | { do: "end_environments" }
  /** Ends one node of the newest environment for good. */
  | { do: "ruin_node"; index: number }
  /** Stops serving the site, and closes connections. */
  | { do: "close_site" }
  /** Serves it again, at the same address. */
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

  /** Starts a shop; `args` are the program's arguments. */
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

  /** Runs a command, and returns when it is done. One at a time. */
  async ask(command: StageCommand): Promise<any> {
    this.#program.stdin.write(JSON.stringify(command) + "\n");
    const line = await this.#lines.next();
    if (line.done) throw new Error(`the stage ended at ${command.do}; see above`);
    const answer = JSON.parse(line.value) as { ok: any } | { error: string };
    if ("error" in answer) throw new Error(`${command.do}: ${answer.error}`);
    return answer.ok;
  }

  /** Stops the shop and waits until it has exited. */
  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#program.once("exit", resolve));
    this.#program.stdin.end();
    await ended;
  }
}
