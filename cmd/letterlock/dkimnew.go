package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/domain"
)

func (p *program) dkimNewCommand() *cobra.Command {
	var selector, algorithm string
	var asJSON bool
	c := &cobra.Command{
		Use: "new DOMAIN", Short: "make keys for a domain",
		Long: `Make an Ed25519 and an RSA key, and print the records to publish. Not every receiver
knows Ed25519 yet (RFC 8463): mail gets a signature of each. The first keys of a domain
sign at once; later ones wait for dkim use. A key that is there is never overwritten.`,
		Example: `  letterlock dkim new example.org
  letterlock dkim new example.org --selector 2027 --algorithm rsa-3072`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.newKeys(c.Context(), args[0], selector, algorithm, asJSON)
		},
	}
	c.Flags().StringVar(&selector, "selector", "", "name of the key; of two keys, what their names begin with (default: the date)")
	c.Flags().StringVar(&algorithm, "algorithm", "both", "both (Ed25519 and RSA-2048), ed25519, rsa-2048 or rsa-3072")
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects")
	completeWords(c, "algorithm", "both", "ed25519", "rsa-2048", "rsa-3072")
	return c
}

// planned are the keys that one dkim new makes.
func planned(selector, algorithm string, now time.Time) (map[string]domain.Algorithm, []string, error) {
	if algorithm == "both" {
		if selector == "" {
			selector = now.UTC().Format("20060102")
		}
		return map[string]domain.Algorithm{selector + "-ed25519": domain.Ed25519, selector + "-rsa": domain.RSA2048}, []string{selector + "-ed25519", selector + "-rsa"}, nil
	}
	a := domain.Algorithm(algorithm)
	if !slices.Contains([]domain.Algorithm{domain.Ed25519, domain.RSA2048, domain.RSA3072}, a) {
		return nil, nil, cli.Faultf(cli.Usage, "take both, ed25519, rsa-2048 or rsa-3072", "there is no algorithm %q", cli.Line(algorithm))
	}
	if selector == "" {
		selector = now.UTC().Format("20060102") + "-" + algorithm
	}
	return map[string]domain.Algorithm{selector: a}, []string{selector}, nil
}

func (p *program) newKeys(ctx context.Context, name, selector, algorithm string, asJSON bool) error {
	plan, selectors, err := planned(selector, algorithm, p.now())
	if err != nil {
		return err
	}
	folder, err := p.dkimFolder()
	if err != nil {
		return err
	}
	there, err := domain.List(folder, name)
	if err != nil {
		return keyFault(name, err)
	}
	for _, k := range there {
		if slices.Contains(selectors, k.Selector) {
			return keyFault(name, fmt.Errorf("%s: %w", k.Selector, domain.ErrExists))
		}
	}
	for _, s := range selectors {
		if _, err := domain.Create(ctx, folder, name, s, plan[s], rand.Reader); err != nil {
			return keyFault(name, err)
		}
	}
	all, err := domain.List(folder, name)
	if err != nil {
		return keyFault(name, err)
	}
	made := slices.DeleteFunc(all, func(k domain.Key) bool { return !slices.Contains(selectors, k.Selector) })
	for _, k := range made {
		if k.Signs {
			p.term.Sayf("%s signs from now on: publish its record", k.Selector)
		} else {
			p.term.Sayf("%s does not sign yet: publish its record, then letterlock dkim use %s %s", k.Selector, k.Domain, k.Selector)
		}
	}
	return p.printKeys(made, asJSON)
}
