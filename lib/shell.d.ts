import type { Command } from './exec.js'
import type { CallOptions } from './options.js'

/** What {@link Lease.shell} takes. */
export interface ShellOptions extends CallOptions {
  /** A command in place of the login shell. */
  command?: Command
  /** What the terminal is called; default `xterm-256color`. */
  term?: string
  /** Its width in characters; default 80. */
  columns?: number
  /** Its height; default 24. */
  rows?: number
}

/**
 * A terminal on an instance: the far side echoes and edits lines, and both its streams arrive as one. It waits while its
 * output is not read.
 *
 * ```js
 * await using shell = await lease.shell({ columns: process.stdout.columns, rows: process.stdout.rows })
 * shell.stdin.end('nvidia-smi\nexit\n')
 * for await (const bytes of shell) process.stdout.write(bytes)
 * ```
 */
export declare class Shell implements AsyncIterable<Uint8Array>, AsyncDisposable {
  private constructor()
  /** What is typed; a `Writable` of Node. */
  readonly stdin: ShellInput
  /** What is shown; a `Readable` of Node. Leaving it early lets the rest go by. */
  readonly output: AsyncIterable<Uint8Array>
  /** How it ended; rejects with the signal's reason, or when the connection was lost. */
  readonly exit: Promise<ShellExit>
  /** Tells the far side a new size. */
  resize(size: { columns: number; rows: number }): void
  /** Hangs up, if it has not ended; the lease stays. */
  close(): Promise<void>
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array>
  [Symbol.asyncDispose](): Promise<void>
}

/** What this package says of a `Writable`, so that its typings need none of Node's. */
export interface ShellInput {
  /** `false`: it takes the data, but the far side is slower; a `drain` event says when to go on. */
  write(data: string | Uint8Array): boolean
  /** Hangs up the keyboard. */
  end(data?: string | Uint8Array): unknown
  once(event: 'drain', listener: () => void): unknown
}

/** How a shell ended. */
export interface ShellExit {
  /** `null` when a signal ended it. */
  readonly exitCode: number | null
  /** The signal's name, e.g. `HUP`, or `null`. */
  readonly signal: string | null
}
