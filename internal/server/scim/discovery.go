package scim

import (
	"net/http"
)

// describe answers what a directory asks about us (RFC 7644 section 4).
func (h *Handler) describe(w http.ResponseWriter, r *http.Request, kind, id string) error {
	if r.URL.Query().Get("filter") != "" {
		return &Fault{http.StatusForbidden, "", "what we are has no filter"} // section 4
	}
	switch {
	case kind == "ServiceProviderConfig" && id == "":
		h.say(w, r, http.StatusOK, h.provider())
	case kind == "ResourceTypes" && id == "":
		h.say(w, r, http.StatusOK, listOf(h.resourceType()))
	case kind == "ResourceTypes" && id == "User":
		h.say(w, r, http.StatusOK, h.resourceType())
	case kind == "Schemas" && id == "":
		h.say(w, r, http.StatusOK, listOf(h.schema()))
	case kind == "Schemas" && id == userSchema:
		h.say(w, r, http.StatusOK, h.schema())
	default:
		return notHere()
	}
	return nil
}

func listOf(resources ...any) listBody {
	return listBody{Schemas: []string{listSchema}, Total: len(resources), Start: 1, PerPage: len(resources), Resources: resources}
}

type object = map[string]any

func (h *Handler) metaOf(kind, place string) object {
	return object{"resourceType": kind, "location": h.o.Base + place}
}

// provider is RFC 7643 section 5.
func (h *Handler) provider() object {
	no := object{"supported": false}
	return object{
		"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"},
		"patch":   object{"supported": true}, "bulk": object{"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
		"filter": object{"supported": true, "maxResults": pageSize}, "changePassword": no, "sort": no, "etag": object{"supported": true},
		"authenticationSchemes": []object{{
			"type": "oauthbearertoken", "name": "Bearer token", "description": "The token of token_file in [scim], in the Authorization header.",
			"specUri": "https://www.rfc-editor.org/info/rfc6750", "primary": true,
		}},
		"meta": h.metaOf("ServiceProviderConfig", "/ServiceProviderConfig"),
	}
}

// resourceType is RFC 7643 section 6.
func (h *Handler) resourceType() any {
	return object{
		"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:ResourceType"},
		"id":      "User", "name": "User", "endpoint": "/Users", "description": "A person with a mailbox", "schema": userSchema,
		"schemaExtensions": []object{}, "meta": h.metaOf("ResourceType", "/ResourceTypes/User"),
	}
}

// schema is RFC 7643 section 7, with the attributes that are kept.
func (h *Handler) schema() any {
	text := func(name, about string, more object) object {
		a := object{"name": name, "type": "string", "multiValued": false, "description": about, "required": false,
			"caseExact": false, "mutability": "readWrite", "returned": "default", "uniqueness": "none"}
		for key, value := range more {
			a[key] = value
		}
		return a
	}
	flag := func(name, about string) object {
		return object{"name": name, "type": "boolean", "multiValued": false, "description": about, "required": false, "mutability": "readWrite", "returned": "default"}
	}
	parts := func(name, about string, multi bool, sub []object) object {
		return object{"name": name, "type": "complex", "multiValued": multi, "description": about, "required": false, "mutability": "readWrite", "returned": "default", "subAttributes": sub}
	}
	return object{
		"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:Schema"},
		"id":      userSchema, "name": "User", "description": "A person with a mailbox",
		"attributes": []object{
			text("userName", "The person's mail address, in a domain served here", object{"required": true, "uniqueness": "server"}),
			parts("name", "The parts of the person's name", false, []object{
				text("formatted", "The whole name", nil), text("familyName", "Family name", nil), text("givenName", "Given name", nil),
				text("middleName", "Middle name", nil), text("honorificPrefix", "Title before the name", nil), text("honorificSuffix", "What follows the name", nil),
			}),
			text("displayName", "What people call them", nil),
			flag("active", "Whether the person may act here at all"),
			parts("emails", "Kept and given back; they make no aliases", true, []object{
				text("value", "The address", nil), text("display", "Its name", nil), text("type", "work, home or other", object{"canonicalValues": []string{"work", "home", "other"}}), flag("primary", "The preferred one"),
			}),
		},
		"meta": h.metaOf("Schema", "/Schemas/"+userSchema),
	}
}
