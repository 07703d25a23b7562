import type { AbortSignalLike } from './options.js'

/** Words, which reach the program as they are, or a line for the remote shell. */
export type Command = readonly string[] | { shell: string }

/** The streams of a command. */
export interface StreamOptions<Data = string> {
  /** Sent to its standard input, which is closed otherwise. An iterable is read as fast as the command takes it. */
  stdin?: string | Uint8Array | Iterable<string | Uint8Array> | AsyncIterable<string | Uint8Array>
  /** Receives standard output as it comes. What it throws becomes a process warning. */
  onStdout?: (data: Data) => void
  /** Receives standard error as it comes. */
  onStderr?: (data: Data) => void
  /** A text encoding of Node, or `buffer` for bytes; default `utf8`. */
  encoding?: string
  /** Most bytes of each stream in the result; default 16 MiB. More is still streamed, and `truncated` says so. */
  maxBuffer?: number
}

/** How a command is run. */
export interface ExecOptions<Data = string> extends StreamOptions<Data> {
  /** Variables to set for it, besides the remote login's own. */
  env?: Readonly<Record<string, string | undefined>>
  /** The remote folder to run it in; default the lease's own below its work root. */
  cwd?: string
  /** Ends it; the call rejects with the signal's reason. */
  signal?: AbortSignalLike
}

/** A piece of output. */
export interface ExecChunk<Data = string> {
  readonly stream: 'stdout' | 'stderr'
  readonly data: Data
}

/** How a command ended. */
export interface ExecResult<Data = string> {
  /** `null` when a signal ended it. */
  readonly exitCode: number | null
  /** The signal's name, e.g. `TERM`, or `null`. */
  readonly signal: string | null
  readonly stdout: Data
  readonly stderr: Data
  /** Whether `stdout` or `stderr` lacks what came after `maxBuffer` bytes. */
  readonly truncated: boolean
}

/**
 * A running command: the promise of its result, and its output once, as it comes.
 *
 * The iteration must begin in the turn in which the command was started. It holds the command back to its own speed, and
 * throws what the promise would reject with. Leaving it early leaves the command running.
 */
export interface RemoteCommand<Data = string> extends Promise<ExecResult<Data>>, AsyncIterable<ExecChunk<Data>> {}
