import type { Command, ExecOptions, RemoteCommand } from './exec.js'
import type { CallOptions, Duration, ReleaseOptions } from './options.js'
import type { Copied, Deadman, Endpoint, LeaseInfo, LeaseStatus, Released, Touched } from './results.js'
import type { Shell, ShellOptions } from './shell.js'
import type { Port, Tunnel } from './tunnel.js'

/**
 * A leased instance with a live SSH session; made by {@link acquire}, {@link open} or {@link start}.
 *
 * It ends by `release()`, by its TTL or its idle timeout; one that was acquired without `keep` also by `await using` and by
 * the end of this process. It is not ended by garbage collection, and by a signal only after
 * {@link installSignalHandlers}.
 */
export declare class Lease implements LeaseInfo {
  private constructor()
  readonly id: string
  readonly slug: string
  readonly instance: string
  readonly offer: string | null
  readonly price: number | null
  readonly gpu: string
  readonly endpoint: Endpoint
  readonly keep: boolean
  readonly workRoot: string
  readonly idleTimeoutSeconds: number
  readonly expiresAt: string | null
  readonly deadman: Deadman

  /**
   * Runs a command, at once. An array of words reaches the program as it is; `{ shell }` is read by the remote shell.
   *
   * Await it for the whole result, or iterate it for the output as it comes. A command that fails is a result, not an
   * error: see `exitCode`. Several commands may run at the same time.
   *
   * ```js
   * const { exitCode, stdout } = await lease.exec(['python3', 'train.py'])
   * for await (const { stream, data } of lease.exec({ shell: 'make 2>&1 | tee log' })) process[stream].write(data)
   * ```
   */
  exec(command: Command, options: ExecOptions<Uint8Array> & { encoding: 'buffer' }): RemoteCommand<Uint8Array>
  exec(command: Command, options?: ExecOptions): RemoteCommand

  /** Opens a terminal. To open one on this process's own terminal, join it to `process.stdin` in raw mode. */
  shell(options?: ShellOptions): Promise<Shell>

  /**
   * Copies a file or folder of this machine to the instance. A relative `local` is below the working directory of the call
   * that made the lease, a relative `remote` below the folder in which `exec` runs commands.
   */
  copyTo(local: string, remote: string, options?: CallOptions): Promise<Copied>

  /** Copies a file or folder of the instance to this machine; paths as in `copyTo`. */
  copyFrom(remote: string, local: string, options?: CallOptions): Promise<Copied>

  /** Opens local ports that lead to the instance, over connections of their own. */
  tunnel(forwards: Port | readonly Port[], options?: CallOptions): Promise<Tunnel>

  /** The lease's state, freshly read. */
  status(options?: CallOptions): Promise<LeaseStatus>

  /** Moves the idle deadline, never the TTL; with `idleTimeout` by that from now on. */
  touch(options?: CallOptions & { idleTimeout?: Duration }): Promise<Touched>

  /**
   * Ends the lease and proves that the instance is gone. A second call gets the answer of the first; after a failure it
   * tries again.
   */
  release(options?: CallOptions & Pick<ReleaseOptions, 'action'>): Promise<Released>

  /** Closes the connection, nothing else; the next command opens another one. */
  close(): void

  /** Releases what was acquired without `keep`; otherwise it only closes the connection. */
  [Symbol.asyncDispose](): Promise<void>

  /** The plain facts; no secret is among them. */
  toJSON(): LeaseInfo
}
