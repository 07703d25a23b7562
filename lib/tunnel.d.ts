import type { VastOptions } from './options.js'

/** A port here: a number leads to the same one there. Or `LOCAL:PORT`, `LOCAL:HOST:PORT`; a local 0 takes any. */
export type Port = number | string

/** One forwarded port. */
export interface Forward {
  /** Where it is here, such as `127.0.0.1:8080`. */
  readonly address: string
  /** The port on the loopback interface here. */
  readonly local: number
  /** Where it leads, as the instance sees it. */
  readonly host: string
  readonly port: number
}

/** What {@link tunnel} takes. Its `signal` also closes a tunnel that is open. */
export interface TunnelOptions extends VastOptions {
  /** Takes over a lease that another repository made; default `false`. */
  reclaim?: boolean
}

/**
 * Open ports of this machine that lead to an instance. Like a server they hold the process until they are closed, and the
 * lease counts as used meanwhile.
 */
export declare class Tunnel implements AsyncDisposable {
  private constructor()
  readonly lease: string
  readonly slug: string
  readonly forwards: readonly Forward[]
  /**
   * Resolves when it was closed; rejects when it ended by itself: `claim_missing` or `instance_not_running` once the lease
   * was released or stopped.
   */
  readonly closed: Promise<void>
  /** Closes the ports and their connections; the lease stays. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
  toJSON(): { lease: string; slug: string; forwards: readonly Forward[] }
}

/** Opens local ports that lead to a lease by lease id, slug or instance id, and resolves when they can be used. */
export declare function tunnel(id: string, forwards: Port | readonly Port[], options?: TunnelOptions): Promise<Tunnel>
