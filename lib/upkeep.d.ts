import type { AdoptOptions, CleanupOptions, ConfigOptions, ForgetOptions, OpenOptions, VastOptions } from './options.js'
import type { Adopted, ClaimsList, Cleaned, Copied, Forgotten, Provider, Smoked, SshCommand } from './results.js'

/**
 * Finishes what dead processes left behind, destroys expired leases and forgets leases whose instance is proved gone.
 * Made for schedules. An item that is refused or fails does not reject the call: see `summary`.
 */
export declare function cleanup(options?: CleanupOptions): Promise<Cleaned>

/** The claims on this machine, of all providers. Needs no API key and asks nobody. */
export declare function listClaims(options?: VastOptions): Promise<ClaimsList>

/**
 * Removes the claim of a lease without ending its instance. What may still be billed is only forgotten with `yes`; without
 * it the call rejects with the code `confirmation_needed`.
 */
export declare function forget(id: string, options?: ForgetOptions): Promise<Forgotten>

/**
 * Takes over an instance that has an ownership label and no claim on this machine; a key of this machine is attached.
 * Instances that neither crabbox nor this package made are never adopted.
 */
export declare function adopt(id: string, options?: AdoptOptions): Promise<Adopted>

/**
 * Copies a file or folder to a lease or from it: one of the two is `lease:path`, relative paths there are below the
 * lease's folder of this repository, where {@link run} works.
 */
export declare function copy(from: string, to: string, options?: OpenOptions): Promise<Copied>

/** The `ssh` command that logs in to a lease. Nothing is run; using it is a use of the lease. */
export declare function sshCommand(id: string, options?: OpenOptions): Promise<SshCommand>

/**
 * One whole lease life against the vendor, given back whatever happens. It costs money, so nothing is rented before the
 * opt-in variables are in `env` and the settings bound the bill. It resolves also when it was not passed.
 */
export declare function liveSmoke(options?: VastOptions): Promise<Smoked>

/** The settings in force as crabbox shows them; with `origin`, each with where it came from. No secret is among them. */
export declare function showConfig(options?: ConfigOptions): Promise<Record<string, unknown>>

/** What this package says of its provider. */
export declare function providers(): Promise<Provider[]>
